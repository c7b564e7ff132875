// Vectors of three numbers; matrices of nine, in rows.
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const plus = (a, b, s = 1) => [a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2]];
const times = (a, s) => [a[0] * s, a[1] * s, a[2] * s];
const length = (a) => Math.sqrt(dot(a, a));
const unit = (a) => times(a, 1 / (length(a) || 1));
const row = (m, k) => [m[3 * k], m[3 * k + 1], m[3 * k + 2]];
const apply = (m, a) => [dot(row(m, 0), a), dot(row(m, 1), a), dot(row(m, 2), a)];

// Rows of m, turned by an angle about an axis that is given in their own frame: the screen.
function turned(m, axis, angle) {
  const [x, y, z] = unit(axis), c = Math.cos(angle), s = Math.sin(angle), t = 1 - c;
  const r = [
    t * x * x + c, t * x * y - s * z, t * x * z + s * y, t * x * y + s * z, t * y * y + c, t * y * z - s * x,
    t * x * z - s * y, t * y * z + s * x, t * z * z + c,
  ];
  const columns = [0, 1, 2].map((k) => apply(r, [m[k], m[3 + k], m[6 + k]]));
  // Orthogonal again, whatever the rounding of many small turns.
  const right = unit([columns[0][0], columns[1][0], columns[2][0]]);
  const up = [columns[0][1], columns[1][1], columns[2][1]];
  const toward = unit(cross(right, up));
  return [...right, ...cross(toward, right), ...toward];
}

// Inverse of a cell whose rows are its vectors, as three columns: shares = [dot(p, columns[k])].
function inverseColumns(cell) {
  const [a, b, c] = [row(cell, 0), row(cell, 1), row(cell, 2)];
  const volume = dot(a, cross(b, c));
  return [cross(b, c), cross(c, a), cross(a, b)].map((one) => times(one, 1 / volume));
}

const cellCorner = (about, i, j, k) =>
  plus(plus(plus(about.origin, row(about.cell, 0), i), row(about.cell, 1), j), row(about.cell, 2), k);

// Pairs of end points of the edges of a cell; in two dimensions of its parallelogram.
function cellEdges(about, dimensions) {
  const edges = [], heights = dimensions === 2 ? [0.5] : [0, 1];
  for (const k of heights) {
    const corners = [[0, 0], [1, 0], [1, 1], [0, 1]].map(([i, j]) => cellCorner(about, i, j, k));
    corners.forEach((one, n) => edges.push([one, corners[(n + 1) % 4]]));
  }
  if (dimensions !== 2)
    for (const [i, j] of [[0, 0], [1, 0], [1, 1], [0, 1]])
      edges.push([cellCorner(about, i, j, 0), cellCorner(about, i, j, 1)]);
  return edges;
}

// Normals of the vertices of quadrilaterals, by area.
function vertexNormals(points, quads) {
  const normals = new Float32Array(points.length);
  const at = (k) => [points[3 * k], points[3 * k + 1], points[3 * k + 2]];
  for (let q = 0; q < quads.length; q += 4) {
    const n = cross(plus(at(quads[q + 2]), at(quads[q]), -1), plus(at(quads[q + 3]), at(quads[q + 1]), -1));
    for (let k = 0; k < 4; k++) for (let x = 0; x < 3; x++) normals[3 * quads[q + k] + x] += n[x];
  }
  return normals;
}
