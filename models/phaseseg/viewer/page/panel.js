// The panel, the mouse and the keys.
const canvas = document.getElementById("canvas"), panel = document.getElementById("panel");
const $ = (id) => document.getElementById(id);
const state = { frame: 0, color: scene.color, data: null, hidden: new Map(), maps: new Map(), bonds: [], clip: { axis: "none", share: 0.5, flip: false } };
let renderer;

function element(kind, attributes = {}, ...content) {
  const made = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && name !== "list") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...content);
  return made;
}

const section = (title, ...content) => element("section", {}, ...(title ? [element("h2", {}, title)] : []), ...content);
const rgb = (hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
const columnNow = () => scene.columns.find((one) => one.name === state.color);
const hiddenOf = (name) => { if (!state.hidden.has(name)) state.hidden.set(name, new Set()); return state.hidden.get(name); };

function shown(value) {
  if (!Number.isFinite(value)) return "none";
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return value.toLocaleString("en");
  return Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3 ? value.toExponential(2) : String(+value.toPrecision(4));
}

// ---------------------------------------------------------------------------------------- colors

function setTables() {
  const species = new Uint8Array(1024), radii = new Float32Array(256), hidden = hiddenOf("species");
  scene.species.slice(0, 256).forEach((one, k) => {
    species.set([...rgb(one.color), hidden.has(k) ? 0 : 255], 4 * k);
    radii[k] = one.radius;
  });
  renderer.table("species", species);
  renderer.table("radii", radii);
  const column = columnNow(), colors = new Uint8Array(1024).fill(255);
  if (column?.classes) {
    const out = hiddenOf(column.name);
    column.classes.forEach((one, k) => colors.set([...rgb(one.color), out.has(k) ? 0 : 255], 4 * k));
    colors.set([153, 153, 153, 255], 4 * 255);
  } else if (column) {
    const stops = scene.maps[column.map], last = stops.length - 1;
    for (let k = 0; k < 256; k++) {
      const place = Math.min(k / 254, 1) * last, low = Math.min(Math.floor(place), last - 1), part = place - low;
      for (let x = 0; x < 3; x++) colors[4 * k + x] = stops[low][x] * (1 - part) + stops[low + 1][x] * part;
    }
  }
  renderer.table("colors", colors);
  renderer.look.mode = !column ? 0 : column.classes ? 1 : 2;
  renderer.look.range = column?.ranked && !column.classes ? [0, 100] : column && !column.classes ? [column.low, column.high > column.low ? column.high : column.low + 1e-30] : [0, 1];
}

function setValues() {
  state.values = shaderValues(state.data, columnNow());
  renderer.store("values", state.values);
}

function setBonds() {
  const made = [], { arrays, atoms, about } = state.data, species = hiddenOf("species"), column = columnNow();
  const out = column?.classes ? hiddenOf(column.name) : new Set();
  const visible = (n) => !species.has(atoms[4 * n + 3]) && !out.has(state.values[n]);
  about.bonds.forEach((bonds, which) => {
    const first = arrays[`${bonds.key}i`], second = arrays[`${bonds.key}j`], choice = state.bonds[which];
    const vectors = pointsOf(arrays[bonds.key], bonds.scale);
    const flag = bonds.flags.includes(choice) ? arrays[`${bonds.key}f${bonds.flags.indexOf(choice)}`] : null;
    if (choice === "none") return;
    for (let b = 0; b < first.length; b++) {
      if ((flag && !flag[b]) || !visible(first[b]) || !visible(second[b])) continue;
      for (const [n, sign] of [[first[b], 0.5], [second[b], -0.5]])
        made.push(atoms[4 * n], atoms[4 * n + 1], atoms[4 * n + 2],
          sign * vectors[3 * b], sign * vectors[3 * b + 1], sign * vectors[3 * b + 2]);
    }
  });
  renderer.setSticks("bonds", new Float32Array(made));
}

function setClip() {
  const { axis, share, flip } = state.clip, about = state.data.about, sign = flip ? -1 : 1;
  if (axis === "none") renderer.look.clip = null;
  else if (axis === "view") {
    const normal = times(row(renderer.view.turn, 2), sign);
    renderer.look.clip = { normal, distance: sign * (2 * share - 1) * renderer.radius };
  } else {
    const k = "abc".indexOf(axis), normal = times(unit(inverseColumns(about.cell)[k]), sign);
    const point = plus(about.origin, row(about.cell, k), share);
    renderer.look.clip = { normal, distance: dot(normal, point) };
  }
}

// -------------------------------------------------------------------------------------- the panel

// A class or species: a box to show or hide it, its color, its name and how many atoms it has.
function entry(name, k, title, color, count, total) {
  const hidden = hiddenOf(name), swatch = element("span", { className: "swatch", style: `background:${color}` });
  const box = element("input", {
    type: "checkbox", checked: !hidden.has(k), onchange: () => {
      if (box.checked) hidden.delete(k); else hidden.add(k);
      line.classList.toggle("off", !box.checked);
      setTables(); setBonds(); renderer.change();
    },
  });
  const share = total ? (100 * count / total).toFixed(1) + " %" : "";
  const line = element("label", { className: "row" + (hidden.has(k) ? " off" : ""), title: share },
    box, swatch, element("span", {}, title), element("span", { className: "n" }, count.toLocaleString("en")));
  line.dataset.entry = `${name}:${title}`;
  return line;
}

function counted(values, size, stride = 1, offset = 0) {
  const counts = new Array(size).fill(0);
  for (let n = offset; n < values.length; n += stride) counts[values[n]] += 1;
  return counts;
}

function colorSection() {
  const choice = element("select", { id: "color", onchange: () => { state.color = choice.value; setValues(); setTables(); setBonds(); fillPanel(); renderer.change(); } },
    element("option", { value: "species" }, "Species"), ...scene.columns.map((one) => element("option", { value: one.name }, one.title)));
  choice.value = state.color;
  const column = columnNow(), content = [choice], n = state.data.n;
  if (column?.classes) {
    const counts = counted(state.values, 256);
    const entries = column.classes.map((one, k) => ({ one, k })).filter(({ one, k }) => counts[k] || column.classes.length < 8);
    content.push(element("div", { className: "list" }, ...entries.map(({ one, k }) => entry(column.name, k, one.name, one.color, counts[k], n))));
  } else if (column) {
    const stops = scene.maps[column.map].map((one) => `rgb(${one})`).join(",");
    const ends = ["low", "high"].map((end) => element("input", {
      type: "number", step: "any", value: +column[end].toPrecision(4), "aria-label": end === "low" ? "Lowest value" : "Highest value",
      onchange: (event) => { if (Number.isFinite(event.target.valueAsNumber)) { column[end] = event.target.valueAsNumber; setTables(); renderer.change(); } },
    }));
    const map = element("select", { id: "map", onchange: () => { column.map = map.value; setTables(); fillPanel(); renderer.change(); } },
      ...Object.keys(scene.maps).map((one) => element("option", { value: one }, one)));
    map.value = column.map;
    const ranked = element("label", { className: "row" }, element("input", {
      type: "checkbox", id: "ranked", checked: column.ranked,
      onchange: (event) => { column.ranked = event.target.checked; setValues(); setTables(); fillPanel(); renderer.change(); },
    }), element("span", {}, "Percentile within the species"));
    const percent = [element("span", {}, "0 %"), element("span", { className: "n" }, "100 %")];
    content.push(element("div", { className: "bar", style: `background:linear-gradient(to right,${stops})` }),
      element("div", { className: "row" }, ...(column.ranked ? percent : ends)), element("div", { className: "row" }, map), ranked);
  }
  if (column) {
    const about = column.description + (column.unit ? `${column.description ? "; " : ""}in ${column.unit}` : "");
    if (about) content.push(element("p", { className: "about" }, about[0].toUpperCase() + about.slice(1) + "."));
  }
  return section("Color by", ...content);
}

function fillPanel() {
  const { data } = state, about = data.about, look = renderer.look;
  const counts = counted(data.atoms, scene.species.length, 4, 3);
  const species = scene.species.map((one, k) => ({ one, k })).filter(({ k }) => counts[k] || scene.frames.length > 1);
  const box = (title, key, id) => element("label", { className: "row" }, element("input", {
    type: "checkbox", id, checked: look[key], onchange: (event) => { look[key] = event.target.checked; renderer.change(); },
  }), element("span", {}, title));
  const slider = (title, id, value, low, high, input) => element("label", { className: "row" }, element("span", {}, title),
    element("input", { type: "range", id, min: low, max: high, step: "any", value, oninput: (event) => { input(event.target.valueAsNumber); renderer.change(true); } }));
  const drawn = [];
  if (scene.frames.some((one) => one.mesh)) drawn.push(box("Interface", "mesh", "mesh"));
  drawn.push(box("Cell", "cell", "cell"));
  about.bonds.forEach((bonds, which) => {
    const choices = ["all", ...bonds.flags, "none"];
    const choice = element("select", { id: `bonds${which}`, onchange: () => { state.bonds[which] = choice.value; setBonds(); renderer.change(); } },
      ...choices.map((one) => element("option", { value: one }, one)));
    choice.value = state.bonds[which];
    drawn.push(element("label", { className: "row" }, element("span", {}, bonds.title), choice));
  });
  drawn.push(slider("Size", "size", look.size, 0.3, 1.6, (value) => (look.size = value)));
  const parallel = element("label", { className: "row" }, element("input", {
    type: "checkbox", id: "parallel", checked: renderer.view.parallel,
    onchange: (event) => { renderer.view.parallel = event.target.checked; renderer.change(); },
  }), element("span", {}, "Parallel projection"));
  const axis = element("select", { id: "clip", onchange: () => { state.clip.axis = axis.value; setClip(); renderer.change(); } },
    ...[["none", "No clip plane"], ["a", "Clip along a"], ["b", "Clip along b"], ["c", "Clip along c"], ["view", "Clip toward the viewer"]]
      .filter(([value]) => scene.dimensions === 3 || value !== "c").map(([value, title]) => element("option", { value }, title)));
  axis.value = state.clip.axis;
  const flip = element("label", { className: "row" }, element("input", {
    type: "checkbox", id: "flip", checked: state.clip.flip, onchange: (event) => { state.clip.flip = event.target.checked; setClip(); renderer.change(); },
  }), element("span", {}, "Other side"));
  const numbers = about.numbers.map(([title, value]) => element("tr", {}, element("td", {}, title), element("td", {}, value)));
  const messages = about.messages.map((text) => element("p", { className: "about" }, text));
  const frame = numbers.length || messages.length
    ? [element("section", {}, element("details", {}, element("summary", {}, "This frame"), element("table", {}, ...numbers), ...messages))] : [];
  panel.replaceChildren(
    colorSection(),
    section("Species", element("div", { className: "list" }, ...species.map(({ one, k }) => entry("species", k, one.name, one.color, counts[k], data.n)))),
    section("Drawn", ...drawn, parallel),
    section("Clip plane", axis, slider("Place", "place", state.clip.share, 0, 1, (value) => { state.clip.share = value; setClip(); }), flip),
    ...frame,
    section("", element("div", { className: "row" }, element("button", { type: "button", id: "reset", onclick: reset }, "Reset view"),
      element("button", { type: "button", id: "save", onclick: savePicture }, "Save picture")),
      element("p", { className: "about" }, "Drag to turn, scroll to zoom, drag with Shift to move, click an atom for its values.")),
  );
}

function select(atom) {
  renderer.look.selected = atom;
  const { data } = state, picked = $("picked");
  picked.hidden = atom < 0;
  renderer.look.chosen = atom < 0 ? null
    : { place: [0, 1, 2].map((x) => data.atoms[4 * atom + x]), radius: scene.species[data.atoms[4 * atom + 3]].radius };
  if (atom >= 0) {
    const own = scene.species[data.atoms[4 * atom + 3]], unitOf = (text) => (text ? ` ${text}` : "");
    const line = (title, value) => element("tr", {}, element("td", {}, title), element("td", {}, value));
    const lines = scene.columns.map((column) => {
      const value = valueOf(data, column, atom), known = column.classes?.find((one) => one.id === value);
      return line(column.title, known ? known.name : shown(value) + (Number.isFinite(value) ? unitOf(column.unit) : ""));
    });
    const at = [0, 1, 2].map((x) => data.atoms[4 * atom + x] - (data.about.origin[x] - data.about.corner[x]));
    picked.replaceChildren(element("b", {}, `${own.name}, id ${idOf(data, atom)}`),
      element("table", {}, ...lines, line(`Position (${scene.length})`, at.map((x) => x.toFixed(2)).join(", "))));
  }
  renderer.change();
}

// --------------------------------------------------------------------------------------- frames

async function showFrame(k) {
  const data = await frameData(k), about = data.about, edges = cellEdges(about, scene.dimensions);
  if (state.wanted !== undefined && state.wanted !== k) return;
  const first = !state.data;
  Object.assign(state, { frame: k, data });
  let radius = 1;
  for (const [point] of edges) radius = Math.max(radius, length(point));
  if (!about.pbc.every(Boolean)) for (let n = 0; n < data.atoms.length; n += 4)
    radius = Math.max(radius, Math.hypot(data.atoms[n], data.atoms[n + 1], data.atoms[n + 2]) + 2);
  renderer.setFrame(data, edges, radius);
  about.bonds.forEach((bonds, which) => (state.bonds[which] ??= bonds.flags.includes(bonds.shown) ? bonds.shown : "all"));
  renderer.look.bondRadius = 0.22 * renderer.look.usual;
  setValues(); setTables(); setBonds();
  if (first) {
    if (about.bonds.length) renderer.look.size = 0.7; // spheres that touch would hide the bonds
    reset();
  }
  if (first) renderer.moved = now(); // a coarse picture at once, a fine one after it
  setClip();
  if (renderer.look.selected >= data.n) select(-1); else select(renderer.look.selected);
  fillPanel();
  $("label").textContent = [`${data.n.toLocaleString("en")} atoms`, about.label].join(", ");
  $("frame").value = k;
  $("when").textContent = about.label;
  document.body.dataset.frame = k;
  document.body.dataset.rest = "";
  renderer.change();
}

function reset() {
  state.touched = false;
  const { view } = renderer, edges = cellEdges(state.data.about, scene.dimensions);
  view.turn = [...scene.turn];
  view.parallel = view.parallel || (scene.dimensions === 2 && !state.fitted);
  state.fitted = true;
  renderer.resize();
  const atoms = state.data.atoms, open = !state.data.about.pbc.every(Boolean), points = [...edges];
  if (open) for (let n = 0; n < atoms.length; n += 4 * Math.ceil(atoms.length / 40000)) points.push([[atoms[n], atoms[n + 1], atoms[n + 2]]]);
  const ratio = renderer.width / canvas.clientWidth;
  renderer.fit(points, ratio * ($("head").offsetHeight + 18), ratio * ($("foot").offsetHeight + 18));
  if (state.clip.axis === "view") setClip();
  renderer.change();
}

// The mean of all pictures, however slow this computer is.
async function average() {
  renderer.averaged = 0;
  for (let k = 0; k < (renderer.smooth ? AVERAGED : 1); k++) {
    renderer.draw(false);
    await new Promise((done) => setTimeout(done));
  }
}

async function savePicture() {
  await average();
  canvas.toBlob((blob) => {
    const link = element("a", { href: URL.createObjectURL(blob), download: `${scene.title || "atoms"}.png` });
    link.click();
    URL.revokeObjectURL(link.href);
  });
}

function addTime() {
  const last = scene.frames.length - 1, slider = $("frame"), play = $("play");
  if (!last) return;
  $("time").hidden = false;
  slider.max = last;
  const go = (k) => { state.wanted = k; return showFrame(k); };
  slider.addEventListener("input", () => go(slider.valueAsNumber));
  let playing = false;
  play.addEventListener("click", async () => {
    playing = !playing;
    play.textContent = playing ? "❚❚" : "▶";
    play.setAttribute("aria-label", playing ? "Pause" : "Play");
    while (playing) {
      await go((state.frame + 1) % (last + 1));
      await new Promise((done) => setTimeout(done, 150));
    }
  });
}

// ---------------------------------------------------------------------------------------- mouse

function addMouse() {
  const held = new Map(), { view } = renderer;
  let apart = 0, start = null;
  const moved = () => { state.touched = true; if (state.clip.axis === "view") setClip(); renderer.change(true); };
  const turn = (x, y) => { view.turn = turned(view.turn, [y, x, 0], Math.hypot(x, y) * 0.008); moved(); };
  const zoom = (by) => { view.far = Math.min(Math.max(view.far * by, 0.02 * renderer.radius), 40 * renderer.radius); moved(); };
  const shift = (x, y) => {
    const step = 2 * view.far / (renderer.scale * canvas.clientHeight);
    view.shift = [view.shift[0] + x * step, view.shift[1] - y * step];
    moved();
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, [event.offsetX, event.offsetY]);
    start = held.size === 1 ? [event.offsetX, event.offsetY] : null;
    apart = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held.has(event.pointerId)) return;
    const [x, y] = held.get(event.pointerId), dx = event.offsetX - x, dy = event.offsetY - y;
    held.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (start && Math.hypot(event.offsetX - start[0], event.offsetY - start[1]) > 4) start = null;
    if (start) return;
    renderer.holding = true;
    if (held.size === 2) {
      const [[a, b], [c, d]] = held.values(), now = Math.hypot(a - c, b - d);
      if (apart) zoom(apart / now);
      apart = now;
      shift(dx / 2, dy / 2);
    } else if (event.shiftKey || event.buttons & 6) shift(dx, dy);
    else turn(dx, dy);
  });
  const end = (event) => {
    held.delete(event.pointerId);
    renderer.holding = false;
    if (start && event.type === "pointerup" && event.button === 0) select(renderer.atomAt(...start));
    start = null;
    renderer.change();
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 100) * 0.0015)); }, { passive: false });
  const keys = { ArrowLeft: () => turn(-12, 0), ArrowRight: () => turn(12, 0), ArrowUp: () => turn(0, -12), ArrowDown: () => turn(0, 12),
    "+": () => zoom(0.9), "-": () => zoom(1.11), r: reset, R: reset, Escape: () => select(-1) };
  canvas.addEventListener("keydown", (event) => { if (keys[event.key]) { event.preventDefault(); keys[event.key](); } });
}

function giveUp(reason) {
  document.body.dataset.state = "still";
  $("reason").textContent = reason;
}

async function main() {
  $("notes").replaceChildren(...scene.notes.map((text) => element("li", {}, text)));
  const gl = canvas.getContext("webgl2", { antialias: false, alpha: false, preserveDrawingBuffer: true, powerPreference: "high-performance" });
  if (!gl || typeof DecompressionStream === "undefined")
    return giveUp("This browser has no WebGL 2, so this is a still picture; any current browser with a graphics driver shows the atoms in three dimensions.");
  canvas.addEventListener("webglcontextlost", (event) => { event.preventDefault(); giveUp("The graphics driver gave up, so this is a still picture; reload the page."); });
  renderer = new Renderer(canvas, gl);
  const radii = scene.species.map((one) => one.radius);
  renderer.look.largest = Math.max(...radii);
  renderer.look.usual = radii.reduce((sum, one) => sum + one, 0) / radii.length;
  scene.species.forEach((one, k) => { if (!one.shown) hiddenOf("species").add(k); });
  addMouse();
  addTime();
  new ResizeObserver(() => { if (state.data && !state.touched) reset(); else renderer.change(); }).observe(canvas);
  await showFrame(0);
}

window.phaseseg = { average, values: () => Array.from(state.values) }; // for tests and pictures
main().catch((error) => { console.error(error); giveUp(`The atoms cannot be drawn (${error.message}), so this is a still picture.`); });
