// The scene, and its frames, which are unpacked when they are first shown.
const scene = JSON.parse(document.getElementById("scene").textContent);
const KEPT_ATOMS = 6e6; // of unpacked frames
const unpacked = new Map();

function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let k = 0; k < binary.length; k++) bytes[k] = binary.charCodeAt(k);
  return bytes;
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const KINDS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, i4: Int32Array, f4: Float32Array };

// Arrays by name: their bytes are stored by place in the value, and some as differences of neighbors.
function arraysOf(bytes, listed) {
  const arrays = {};
  let start = 0;
  for (const [name, kind, size, differences] of listed) {
    const Kind = KINDS[kind], width = Kind.BYTES_PER_ELEMENT, mixed = new Uint8Array(size * width);
    for (let k = 0; k < width; k++) {
      const plane = bytes.subarray(start + k * size, start + (k + 1) * size);
      for (let n = 0; n < size; n++) mixed[n * width + k] = plane[n];
    }
    start += size * width;
    const values = (arrays[name] = new Kind(mixed.buffer));
    if (differences) for (let n = 1; n < size; n++) values[n] += values[n - 1];
  }
  return arrays;
}

// Points of three rows, in steps from an offset.
function pointsOf(values, scale, width = 3) {
  const n = values.length / 3, points = new Float32Array(n * width);
  for (let x = 0; x < 3; x++) {
    const low = scale[x], step = scale[3 + x], from = values.subarray(x * n, (x + 1) * n);
    for (let k = 0; k < n; k++) points[k * width + x] = low + step * from[k];
  }
  return points;
}

async function frameData(k) {
  if (unpacked.has(k)) {
    const found = unpacked.get(k);
    unpacked.delete(k);
    unpacked.set(k, found);
    return found;
  }
  const about = scene.frames[k];
  const text = document.getElementById(`frame-${k}`).textContent;
  const arrays = arraysOf(await inflated(bytesOf(text)), about.arrays);
  const atoms = pointsOf(arrays.positions, about.scale, 4);
  for (let n = 0; n < about.n; n++) atoms[4 * n + 3] = arrays.species[n];
  const frame = { about, arrays, atoms, n: about.n };
  if (about.mesh) {
    frame.mesh = { points: pointsOf(arrays.mesh, about.mesh.scale), quads: arrays.quads };
    frame.mesh.normals = vertexNormals(frame.mesh.points, arrays.quads);
  }
  unpacked.set(k, frame);
  let total = 0;
  for (const one of unpacked.values()) total += one.n;
  for (const [key, one] of unpacked) {
    if (total <= KEPT_ATOMS || key === k) break;
    total -= one.n;
    unpacked.delete(key);
  }
  return frame;
}

function idOf(frame, atom) {
  const high = frame.arrays["high ids"];
  return (high ? high[atom] * 4294967296 : 0) + frame.arrays.ids[atom];
}

const UNKNOWN = -3e38;

// Value of an atom in a column: the number of a class, or a scalar; NaN where it has none.
function valueOf(frame, column, atom) {
  const values = frame.arrays[`c${column.place}`], scale = frame.about.columns[column.name];
  if (!values || !scale) return NaN;
  if (values instanceof Uint16Array && values[atom] === 65535) return NaN;
  return scale[0] + scale[1] * values[atom];
}

// Percentile of every atom among those of its species; equal values have the same.
function percentiles(frame, column) {
  const made = new Float32Array(frame.n).fill(UNKNOWN), groups = new Map();
  for (let n = 0; n < frame.n; n++) {
    const value = valueOf(frame, column, n), species = frame.atoms[4 * n + 3];
    if (!Number.isFinite(value)) continue;
    if (!groups.has(species)) groups.set(species, []);
    groups.get(species).push(n);
  }
  for (const group of groups.values()) {
    const values = Float64Array.from(group, (n) => valueOf(frame, column, n)).sort(), size = values.length;
    const place = (value, after) => { // how many are below, or up to, a value
      let low = 0, high = size;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (values[middle] < value || (after && values[middle] === value)) low = middle + 1; else high = middle;
      }
      return low;
    };
    for (const n of group) {
      const value = valueOf(frame, column, n);
      made[n] = 50 * (place(value, false) + place(value, true)) / size;
    }
  }
  return made;
}

// What the shader reads of a column: the place of a class in the legend, or the scalar.
function shaderValues(frame, column) {
  const made = new Float32Array(frame.n);
  if (!column) return made;
  if (!column.classes && column.ranked) return percentiles(frame, column);
  const places = column.classes ? new Map(column.classes.map((one, k) => [one.id, k])) : null;
  for (let n = 0; n < frame.n; n++) {
    const value = valueOf(frame, column, n);
    made[n] = places ? (places.get(value) ?? 255) : Number.isFinite(value) ? value : UNKNOWN;
  }
  return made;
}
scene.columns.forEach((one, k) => (one.place = k));
