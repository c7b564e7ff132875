// Draws the atoms of one frame. Everything is drawn without light first; light, ambient occlusion and outlines
// are added on the screen. While nothing moves, shifted pictures are averaged, which smooths edges.
const OPENING = 24 * Math.PI / 180, AVERAGED = 24, SLOW = 60; // of the view; pictures; ms for one
// While the mouse moves, slow computers draw every n-th atom, with fewer pixels and samples of the shadows.
const COARSE = [[1, 1, 8], [1, 1, 4], [1, 2, 4], [2, 2, 3], [4, 2, 2], [8, 3, 1]];
const now = () => performance.now();

class Renderer {
  constructor(canvas, gl) {
    Object.assign(this, { canvas, gl, level: 3, averaged: 0, version: 0, moved: now(), waiting: 0, holding: false });
    this.smooth = !!gl.getExtension("EXT_color_buffer_float") || !!gl.getExtension("EXT_color_buffer_half_float");
    this.programs = {
      points: this.program(sphereVertex(true), SPHERE_FRAGMENT), spheres: this.program(sphereVertex(false), SPHERE_FRAGMENT),
      sticks: this.program(STICK_VERTEX, STICK_FRAGMENT),
      light: this.program(SCREEN_VERTEX, LIGHT_FRAGMENT), mesh: this.program(MESH_VERTEX, MESH_FRAGMENT),
      copy: this.program(SCREEN_VERTEX, COPY_FRAGMENT),
    };
    this.buffers = {};
    this.textures = {};
    this.counts = { atoms: 0, edges: 0, bonds: 0, mesh: 0 };
    this.view = { turn: [1, 0, 0, 0, 1, 0, 0, 0, 1], shift: [0, 0], far: 100, parallel: false };
    this.look = { size: 1, mode: 0, range: [0, 1], clip: null, selected: -1, cell: true, bonds: true, mesh: true, bondRadius: 0.1 };
    gl.clearColor(0, 0, 0, 0);
    gl.disable(gl.DITHER);
    this.empty = gl.createVertexArray();
  }

  program(vertex, fragment) {
    const gl = this.gl, made = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(made, shader);
    }
    gl.linkProgram(made);
    if (!gl.getProgramParameter(made, gl.LINK_STATUS)) {
      const logs = gl.getAttachedShaders(made).map((one) => gl.getShaderInfoLog(one));
      throw new Error([gl.getProgramInfoLog(made), ...logs].join(" "));
    }
    const places = {};
    for (let k = 0; k < gl.getProgramParameter(made, gl.ACTIVE_UNIFORMS); k++) {
      const about = gl.getActiveUniform(made, k);
      places[about.name] = gl.getUniformLocation(made, about.name);
    }
    return { made, places };
  }

  // ------------------------------------------------------------------------------------ content

  store(name, values, target = this.gl.ARRAY_BUFFER) {
    const gl = this.gl;
    gl.bindVertexArray(null);
    this.buffers[name] ??= gl.createBuffer();
    gl.bindBuffer(target, this.buffers[name]);
    gl.bufferData(target, values, gl.STATIC_DRAW);
  }

  // A row of 256 texels: bytes of colors, or floats.
  table(name, values) {
    const gl = this.gl, floats = values instanceof Float32Array;
    this.textures[name] ??= gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.textures[name]);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    if (floats) gl.texImage2D(gl.TEXTURE_2D, 0, gl.R32F, 256, 1, 0, gl.RED, gl.FLOAT, values);
    else gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, values);
  }

  setFrame(frame, edges, radius) {
    this.radius = radius;
    this.store("atoms", frame.atoms);
    this.counts.atoms = frame.n;
    this.setSticks("edges", edges);
    this.counts.mesh = 0;
    if (frame.mesh) {
      this.store("points", frame.mesh.points);
      this.store("normals", frame.mesh.normals);
      const quads = frame.mesh.quads, corners = new Uint32Array(quads.length / 4 * 6);
      for (let q = 0, k = 0; q < quads.length; q += 4)
        for (const n of [0, 1, 2, 0, 2, 3]) corners[k++] = quads[q + n];
      this.store("corners", corners, this.gl.ELEMENT_ARRAY_BUFFER);
      this.counts.mesh = corners.length;
      this.meshAbout = frame.about.mesh;
    }
  }

  setSticks(name, pairs) {
    const values = pairs instanceof Float32Array ? pairs : new Float32Array(pairs.flatMap(([a, b]) => [...a, ...plus(b, a, -1)]));
    this.store(name, values);
    this.counts[name] = values.length / 6;
  }

  // ------------------------------------------------------------------------------------- camera

  get scale() { return 1 / Math.tan(OPENING / 2); }

  get pixel() { // Å per pixel at the distance 1, or everywhere in parallel projection
    return 2 / (this.scale * this.height) * (this.view.parallel ? this.view.far : 1);
  }

  get place() { return [this.view.shift[0], this.view.shift[1], -this.view.far]; }

  projection() {
    const { far, parallel } = this.view, depth = this.radius * 1.3 + 1;
    const near = parallel ? far - depth : Math.max(far - depth, 0.02 * Math.min(far, depth)), end = far + depth;
    const high = parallel ? this.scale / far : this.scale, wide = high * this.height / this.width;
    return parallel
      ? { values: [wide, high, -2 / (end - near), -(end + near) / (end - near)], near, end }
      : { values: [wide, high, -(end + near) / (end - near), -2 * end * near / (end - near)], near, end };
  }

  // Place the viewer so that all points are seen between the head and the foot, which are so many pixels high.
  fit(points, head, foot) {
    const free = Math.max(this.height - head - foot, 0.3 * this.height) / this.height, { turn, parallel } = this.view;
    const wide = this.scale * this.height / this.width, high = this.scale / free;
    let far = 0;
    for (const [point] of points) {
      const [x, y, z] = apply(turn, point);
      far = Math.max(far, Math.max(Math.abs(x) * wide, Math.abs(y) * high) + (parallel ? 0 : z));
    }
    this.view.far = 1.06 * far + 1.2 * this.look.usual * this.look.size * high || 10;
    const middle = (foot - head) / this.height; // of what is free, in halves of the height
    this.view.shift = [0, middle * this.view.far / this.scale];
  }

  // ------------------------------------------------------------------------------------ drawing

  resize() {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.max(Math.round(this.canvas.clientWidth * ratio), 1);
    const height = Math.max(Math.round(this.canvas.clientHeight * ratio), 1);
    if (width === this.width && height === this.height) return;
    Object.assign(this.canvas, { width, height });
    Object.assign(this, { width, height });
    const gl = this.gl;
    const target = (old, format, ...kind) => {
      gl.deleteTexture(old);
      const made = gl.createTexture();
      gl.bindTexture(gl.TEXTURE_2D, made);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
      gl.texImage2D(gl.TEXTURE_2D, 0, format, width, height, 0, ...kind, null);
      return made;
    };
    const t = this.textures;
    t.color = target(t.color, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE);
    t.normal = target(t.normal, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE);
    t.depth = target(t.depth, gl.DEPTH_COMPONENT24, gl.DEPTH_COMPONENT, gl.UNSIGNED_INT);
    t.lit = target(t.lit, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE);
    if (this.smooth) t.mean = target(t.mean, gl.RGBA16F, gl.RGBA, gl.HALF_FLOAT);
    const targets = { scene: [t.color, t.normal], lit: [t.lit], ...(this.smooth ? { mean: [t.mean] } : {}) };
    this.targets ??= {};
    for (const [name, colors] of Object.entries(targets)) {
      gl.bindFramebuffer(gl.FRAMEBUFFER, (this.targets[name] ??= gl.createFramebuffer()));
      colors.forEach((one, k) => gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + k, gl.TEXTURE_2D, one, 0));
      gl.drawBuffers(colors.map((_, k) => gl.COLOR_ATTACHMENT0 + k));
      if (name === "scene") gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.DEPTH_ATTACHMENT, gl.TEXTURE_2D, t.depth, 0);
    }
    this.averaged = 0;
  }

  // Pixels drawn, and how many of the canvas each of them covers in one direction.
  coarsened(ratio) {
    this.ratio = ratio;
    this.drawn = [Math.ceil(this.width / ratio), Math.ceil(this.height / ratio)];
    this.gl.viewport(0, 0, ...this.drawn);
  }

  use(name, jitter, textures = {}) {
    const gl = this.gl, { made, places } = this.programs[name], clip = this.look.clip;
    gl.useProgram(made);
    gl.uniform4fv(places.uProjection ?? null, this.projected.values);
    gl.uniform2fv(places.uJitter ?? null, jitter);
    gl.uniform1i(places.uParallel ?? null, this.view.parallel);
    if (places.uTurn) gl.uniformMatrix3fv(places.uTurn, true, this.view.turn);
    gl.uniform3fv(places.uPlace ?? null, this.place);
    gl.uniform4fv(places.uClip ?? null, clip ? [...clip.normal, clip.distance] : [0, 0, 0, 1]);
    gl.uniform1f(places.uPixel ?? null, this.pixel * this.ratio);
    gl.uniform2iv(places.uDrawn ?? null, this.drawn);
    Object.entries(textures).forEach(([place, texture], unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, this.textures[texture]);
      gl.uniform1i(places[place] ?? null, unit);
    });
    return places;
  }

  attribute(place, buffer, size, stride, offset = 0, divisor = 0) {
    const gl = this.gl;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[buffer]);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, size, gl.FLOAT, false, stride, offset);
    gl.vertexAttribDivisor(place, divisor);
  }

  drawScene(jitter, stride, pick) {
    const gl = this.gl, look = this.look;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.targets.scene);
    gl.enable(gl.DEPTH_TEST);
    gl.disable(gl.BLEND);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const { far, parallel } = this.view, nearest = parallel ? 1 : Math.max(far - this.radius, 1e-3);
    const small = look.largest * look.size / (this.pixel * nearest) < 24, kind = small ? "points" : "spheres";
    const places = this.use(kind, jitter, { uSpecies: "species", uRadii: "radii", uColors: "colors" });
    gl.uniform1i(places.uMode, look.mode);
    gl.uniform2fv(places.uRange, look.range);
    gl.uniform1f(places.uSize, look.size);
    gl.uniform1i(places.uStride, stride);
    gl.uniform1i(places.uPick, pick);
    gl.bindVertexArray((this.arrays ??= {})[kind] ??= gl.createVertexArray());
    this.attribute(0, "atoms", 4, 16 * stride, 0, small ? 0 : 1);
    this.attribute(1, "values", 1, 4 * stride, 0, small ? 0 : 1);
    const count = Math.floor((this.counts.atoms + stride - 1) / stride);
    if (small) gl.drawArrays(gl.POINTS, 0, count);
    else gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, count);
    if (pick) return;
    if (look.bonds) this.drawSticks("bonds", jitter, look.bondRadius * look.size, [0.33, 0.33, 0.36, 1]);
    if (look.cell) this.drawSticks("edges", jitter, -0.75 * Math.min(window.devicePixelRatio || 1, 2), [0.25, 0.25, 0.25, 0.5]);
  }

  drawSticks(name, jitter, radius, color) {
    if (!this.counts[name]) return;
    const gl = this.gl, places = this.use("sticks", jitter);
    gl.uniform1f(places.uRadius, radius);
    gl.uniform4fv(places.uColor, color);
    gl.bindVertexArray((this.arrays[name] ??= gl.createVertexArray()));
    this.attribute(0, name, 3, 24, 0, 1);
    this.attribute(1, name, 3, 24, 12, 1);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, this.counts[name]);
  }

  drawMesh(jitter) {
    const gl = this.gl, about = this.meshAbout, places = this.use("mesh", jitter, { uDepthMap: "depth" });
    const columns = inverseColumns(about.cell);
    gl.uniformMatrix3fv(places.uShares, false, columns.flat());
    gl.uniform3fv(places.uCorner, about.origin);
    gl.uniform3iv(places.uPeriodic ?? places["uPeriodic[0]"], about.pbc.map(Number));
    gl.uniform4fv(places.uColor, [0.93, 0.86, 0.56, 0.5]); // as in OVITO
    gl.bindVertexArray((this.arrays.mesh ??= gl.createVertexArray()));
    this.attribute(0, "points", 3, 12);
    this.attribute(1, "normals", 3, 12);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.buffers.corners);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.enable(gl.CULL_FACE);
    for (const side of [gl.FRONT, gl.BACK]) { // what is behind comes first
      gl.cullFace(side);
      gl.drawElements(gl.TRIANGLES, this.counts.mesh, gl.UNSIGNED_INT, 0);
    }
    gl.disable(gl.CULL_FACE);
    gl.disable(gl.BLEND);
  }

  // One picture; the mean of several where nothing has moved.
  draw(moving) {
    const gl = this.gl, k = this.averaged, [stride, ratio, samples] = moving ? COARSE[this.level] : [1, 1, 12];
    this.coarsened(ratio);
    const halton = (n, base) => { let f = 1, r = 0; while (n) { f /= base; r += f * (n % base); n = Math.floor(n / base); } return r; };
    const jitter = k && this.smooth ? [(2 * halton(k, 2) - 1) / this.width, (2 * halton(k, 3) - 1) / this.height] : [0, 0];
    this.projected = this.projection();
    this.drawScene(jitter, stride, false);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.targets.lit);
    gl.disable(gl.DEPTH_TEST);
    const places = this.use("light", jitter, { uColorMap: "color", uNormalMap: "normal", uDepthMap: "depth" });
    const { far } = this.view, size = this.look.usual * this.look.size;
    gl.uniform2fv(places.uDepths, [far - this.radius, far + this.radius]);
    gl.uniform1f(places.uReach, 2.2 * size);
    gl.uniform1f(places.uOutline, Math.min(Math.max(size / (this.pixel * ratio * (this.view.parallel ? 1 : far)) / 6 - 0.3, 0), 0.55));
    gl.uniform1f(places.uTurnOfSamples, 2.4 * k);
    gl.uniform1i(places.uSamples, samples);
    gl.bindVertexArray(this.empty);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    if (this.look.mesh && this.counts.mesh) this.drawMesh(jitter);
    gl.bindVertexArray(this.empty);
    if (this.smooth) {
      gl.bindFramebuffer(gl.FRAMEBUFFER, this.targets.mean);
      const copy = this.use("copy", jitter, { uFrom: "lit" });
      gl.uniform1i(copy.uWhite, false);
      gl.uniform1f(copy.uRatio, 1);
      gl.uniform3f(copy.uRing, 0, 0, 0);
      gl.enable(gl.BLEND);
      gl.blendColor(0, 0, 0, 1 / (k + 1));
      gl.blendFunc(gl.CONSTANT_ALPHA, gl.ONE_MINUS_CONSTANT_ALPHA);
      gl.drawArrays(gl.TRIANGLES, 0, 3);
      gl.disable(gl.BLEND);
    }
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, this.width, this.height);
    const copy = this.use("copy", jitter, { uFrom: this.smooth ? "mean" : "lit" });
    gl.uniform1i(copy.uWhite, true);
    gl.uniform1f(copy.uRatio, ratio);
    gl.uniform3fv(copy.uRing, this.ring());
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    this.averaged = moving ? 0 : k + 1;
  }

  // Center and radius, in pixels, of the circle around the chosen atom, which others may hide.
  ring() {
    const { place, radius } = this.look.chosen ?? {};
    if (!place) return [0, 0, 0];
    const [x, y, z] = plus(apply(this.view.turn, place), this.place), w = this.view.parallel ? 1 : -z;
    if (w <= 0) return [0, 0, 0];
    const [wide, high] = this.projected.values, half = [this.width / 2, this.height / 2];
    return [half[0] * (1 + wide * x / w), half[1] * (1 + high * y / w), half[1] * high * radius * this.look.size / w + 3];
  }

  // The row of the atom at a place of the canvas, -1 for none.
  atomAt(x, y) {
    const gl = this.gl, ratio = this.width / this.canvas.clientWidth, texel = new Uint8Array(4);
    this.projected = this.projection();
    this.coarsened(1);
    gl.enable(gl.SCISSOR_TEST);
    const left = Math.floor(x * ratio), bottom = this.height - 1 - Math.floor(y * ratio);
    gl.scissor(left, bottom, 1, 1);
    this.drawScene([0, 0], 1, true);
    gl.readPixels(left, bottom, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, texel);
    gl.disable(gl.SCISSOR_TEST);
    return texel[3] ? texel[0] + 256 * texel[1] + 65536 * texel[2] - 1 : -1;
  }

  // ---------------------------------------------------------------------------------- scheduling

  // Draw again soon; `moving` while the mouse moves, when every n-th atom is enough.
  change(moving = false) {
    this.averaged = 0;
    this.version += 1;
    this.finished = false;
    Object.assign(document.body.dataset, { rest: "", averaged: 0 });
    if (moving) this.moved = now();
    this.again();
  }

  again() {
    this.waiting ||= requestAnimationFrame(() => this.tick());
  }

  // One picture at a time: the next one begins when the graphics card has finished the last.
  tick() {
    this.waiting = 0;
    const gl = this.gl, { dataset } = document.body;
    if (!this.counts.atoms) return;
    if (this.sync) {
      if (gl.getSyncParameter(this.sync, gl.SYNC_STATUS) !== gl.SIGNALED) return this.again();
      gl.deleteSync(this.sync);
      this.sync = null;
      this.judge(now() - this.started);
      dataset.state = "drawn";
      if (this.drawnVersion === this.version) dataset.averaged = this.averaged;
      if (this.holding && this.drawnVersion === this.version) return; // until the mouse goes on
      if (this.finished) {
        dataset.rest = "1";
        return;
      }
    }
    this.resize();
    const start = now();
    this.moving = this.holding || start - this.moved < 250;
    this.draw(this.moving);
    this.sync = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
    gl.flush();
    Object.assign(this, { started: start, drawnVersion: this.version });
    if (this.averaged <= 1) this.rested = start;
    // A slow computer stops earlier.
    const enough = !this.smooth || this.averaged >= AVERAGED || start - this.rested > 3000;
    this.finished = !this.moving && enough;
    this.again();
  }

  // Choose how coarse the pictures are while the mouse moves, by the time that one took.
  judge(took) {
    if (!this.moving) this.level = Math.max(this.level, Math.min(Math.floor(Math.log2(Math.max(took, 1) / SLOW)), 5));
    else if (took > SLOW) this.level = Math.min(this.level + (took > 4 * SLOW ? 2 : 1), 5);
    else if (took < SLOW / 2) this.level = Math.max(this.level - 1, 0);
  }
}
