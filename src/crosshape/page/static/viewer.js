// A shape that turns: reads the server's GLB (one primitive, no textures) and draws it with WebGL 2.
// Shading is that of the stored views: two-sided, bright where the surface faces the eye.

import { h } from "./dom.js";
import { problem } from "./api.js";

const VERTEX = `#version 300 es
in vec3 place; in vec3 normal; in vec4 colour;
uniform mat4 turn; uniform mat4 lens; uniform float dot_size;
out vec3 at; out vec3 facing; out vec4 paint;
void main() {
  vec4 seen = turn * vec4(place, 1.0);
  at = seen.xyz; facing = mat3(turn) * normal; paint = colour;
  gl_Position = lens * seen;
  gl_PointSize = dot_size / max(0.2, -seen.z);
}`;
const FRAGMENT = `#version 300 es
precision highp float;
in vec3 at; in vec3 facing; in vec4 paint;
uniform vec3 base; uniform vec3 edge; uniform bool points; uniform bool facets;
out vec4 shown;
void main() {
  if (points && length(gl_PointCoord - 0.5) > 0.5) discard;
  vec3 flat_normal = cross(dFdx(at), dFdy(at));
  vec3 n = facets || dot(facing, facing) < 1e-8 ? flat_normal : facing;
  n = normalize(n);
  vec3 eye = normalize(-at);
  if (dot(n, eye) < 0.0) n = -n;
  float front = dot(n, eye);
  float key = max(0.0, dot(n, normalize(vec3(-0.45, 0.75, 0.5))));
  float light = 0.66 * pow(front, 0.8) + 0.36 * key + 0.14 * (0.5 + 0.5 * n.y);
  float gleam = pow(max(0.0, dot(n, normalize(eye + vec3(-0.35, 0.6, 0.5)))), 36.0) * 0.14;
  vec3 skin = base * paint.rgb;
  shown = vec4(mix(edge * paint.rgb, skin, clamp(light, 0.0, 1.0)) + gleam, 1.0);
}`;

// The lens and the place of the stored views, so that the picture becomes the shape without a jump:
// the eye is 3 radii away, the sphere fills 0.96 of the height.
export const START = { yaw: (-150 * Math.PI) / 180, pitch: Math.PI / 6, near: 1, x: 0, y: 0 };
const BACK = 3, FIELD = 2 * Math.atan(Math.tan(Math.asin(1 / BACK)) / 0.96);
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Viewer {
  /** still picture: what stands there until the mesh is loaded, and where there is no WebGL. */
  constructor({ picture = null, turning = true, label = "Shape in 3D" } = {}) {
    this.canvas = h("canvas", { tabIndex: 0, role: "img", "aria-label": `${label}. Drag or use the arrow keys to turn it, plus and minus to come nearer.` });
    this.words = h("span", { class: "say", hidden: true });
    this.root = h("div", { class: "stage" }, this.canvas, picture, this.words);
    this.root.viewer = this;
    this.picture = picture;
    this.camera = { ...START };
    this.turning = turning && !still.matches;
    this.scale = 1;
    this.linked = null;
    this.gl = this.canvas.getContext("webgl2", { antialias: true, alpha: true, premultipliedAlpha: false });
    this.state = "loading";
    if (this.gl) this.prepare();
    this.listen();
    this.resize = new ResizeObserver(() => this.draw());
    this.resize.observe(this.canvas);
  }

  prepare() {
    const gl = this.gl;
    const part = (kind, text) => {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS) && !gl.isContextLost()) throw new Error(gl.getShaderInfoLog(shader));
      return shader;
    };
    this.program = gl.createProgram();
    gl.attachShader(this.program, part(gl.VERTEX_SHADER, VERTEX));
    gl.attachShader(this.program, part(gl.FRAGMENT_SHADER, FRAGMENT));
    ["place", "normal", "colour"].forEach((name, number) => gl.bindAttribLocation(this.program, number, name));
    gl.linkProgram(this.program);
    this.at = (name) => gl.getUniformLocation(this.program, name);
    gl.enable(gl.DEPTH_TEST);
  }

  /** Load a GLB and show it; radius: of the sphere that it fills. Resolves to what the file says of itself. */
  async show(address, radius, signal) {
    if (!this.gl) {
      this.say("This browser has no WebGL; the stored views are shown.");
      return {};
    }
    const response = await fetch(address, { signal });
    if (!response.ok) throw await problem(response);
    const mesh = read_glb(await response.arrayBuffer());
    if (this.closed) return {};
    this.radius = radius || 1;
    this.upload(mesh);
    this.state = "shown";
    this.picture?.classList.add("gone");
    this.draw();
    if (this.turning) this.spin();
    return mesh.extras;
  }

  upload(mesh) {
    const gl = this.gl;
    this.points = mesh.mode === 0;
    const faces = mesh.indices ? mesh.indices.length / 3 : 0;
    let { places, normals, colours, indices } = mesh;
    this.facets = false;
    if (!this.points && !normals) {
      if (faces <= 250000) ({ places, normals, colours } = smooth(places, indices, colours)), (indices = null);
      else this.facets = true;
    }
    this.vertices?.forEach((buffer) => gl.deleteBuffer(buffer));
    this.array ??= gl.createVertexArray();
    gl.bindVertexArray(this.array);
    this.vertices = [];
    const give = (number, data, width, kind, scaled) => {
      if (!data) {
        gl.disableVertexAttribArray(number);
        if (number === 1) gl.vertexAttrib3f(1, 0, 0, 0); else gl.vertexAttrib4f(2, 1, 1, 1, 1);
        return;
      }
      const buffer = gl.createBuffer();
      this.vertices.push(buffer);
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(number);
      gl.vertexAttribPointer(number, width, kind, scaled, 0, 0);
    };
    give(0, places, 3, gl.FLOAT, false);
    give(1, normals, 3, gl.FLOAT, false);
    give(2, colours, 4, gl.UNSIGNED_BYTE, true);
    this.count = indices ? indices.length : places.length / 3;
    this.wide = null;
    if (indices) {
      const buffer = gl.createBuffer();
      this.vertices.push(buffer);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, indices, gl.STATIC_DRAW);
      this.wide = indices instanceof Uint32Array ? gl.UNSIGNED_INT : gl.UNSIGNED_SHORT;
    }
  }

  draw() {
    if (this.waiting || this.closed) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.paint(); });
  }

  paint() {
    const gl = this.gl;
    if (!gl || this.closed || this.state !== "shown") return;
    const sharp = Math.min(devicePixelRatio || 1, 2);
    const wide = Math.max(1, Math.round(this.canvas.clientWidth * sharp)), high = Math.max(1, Math.round(this.canvas.clientHeight * sharp));
    if (this.canvas.width !== wide || this.canvas.height !== high) Object.assign(this.canvas, { width: wide, height: high });
    gl.viewport(0, 0, wide, high);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.useProgram(this.program);
    const { yaw, pitch, near, x, y } = this.camera;
    const away = BACK / near, zoom = 1 / Math.tan(FIELD / 2) * Math.min(1, wide / high);
    const s = this.scale / this.radius;
    const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    // Turned about the up axis, then tilted, then moved away from the eye; columns first.
    const turn = [cy * s, sy * sp * s, -sy * cp * s, 0, 0, cp * s, sp * s, 0, sy * s, -cy * sp * s, cy * cp * s, 0, x, y, -away, 1];
    const close = Math.max(0.02, away - 2.5), far = away + 2.5;
    const lens = [zoom * high / wide, 0, 0, 0, 0, zoom, 0, 0, 0, 0, -(far + close) / (far - close), -1, 0, 0, (-2 * far * close) / (far - close), 0];
    gl.uniformMatrix4fv(this.at("turn"), false, turn);
    gl.uniformMatrix4fv(this.at("lens"), false, lens);
    gl.uniform1f(this.at("dot_size"), Math.min(wide, high) * 0.055 * Math.sqrt(2048 / Math.max(256, this.count)) * this.scale * 2.2);
    const dark = is_dark();
    gl.uniform3fv(this.at("base"), dark ? [0.74, 0.79, 0.88] : [0.87, 0.89, 0.93]);
    gl.uniform3fv(this.at("edge"), dark ? [0.1, 0.13, 0.2] : [0.2, 0.22, 0.28]);
    gl.uniform1i(this.at("points"), this.points);
    gl.uniform1i(this.at("facets"), this.facets);
    gl.bindVertexArray(this.array);
    if (this.points) gl.drawArrays(gl.POINTS, 0, this.count);
    else if (this.wide) gl.drawElements(gl.TRIANGLES, this.count, this.wide, 0);
    else gl.drawArrays(gl.TRIANGLES, 0, this.count);
    this.drawn = (this.drawn || 0) + 1;
  }

  spin() {
    if (this.spinning) return;
    this.spinning = true;
    let before = performance.now();
    const step = (now) => {
      if (!this.turning || this.closed) { this.spinning = false; return; }
      if (this.canvas.isConnected && !document.hidden) {
        this.move({ yaw: this.camera.yaw + Math.min(now - before, 100) * 0.00028 }, false);
      }
      before = now;
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  /** Change the camera; linked viewers follow. */
  move(change, by_hand = true) {
    if (by_hand) this.turning = false;
    Object.assign(this.camera, change);
    this.camera.pitch = Math.max(-1.55, Math.min(1.55, this.camera.pitch));
    this.camera.near = Math.max(0.3, Math.min(12, this.camera.near));
    this.draw();
    this.linked?.(this.camera, by_hand);
  }

  follow(camera, by_hand) {
    if (by_hand) this.turning = false;
    Object.assign(this.camera, camera);
    this.draw();
  }

  say(text) {
    this.words.hidden = !text;
    this.words.textContent = text || "";
  }

  listen() {
    const fingers = new Map();
    let held = false;
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, event);
      held = true;
    });
    this.canvas.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY, side = this.canvas.clientHeight;
      const reach = (2 * BACK * Math.tan(FIELD / 2)) / this.camera.near / side;
      if (fingers.size === 1 && !(event.shiftKey || before.button === 2 || event.buttons === 2)) {
        this.move({ yaw: this.camera.yaw + dx * 0.0085, pitch: this.camera.pitch + dy * 0.0085 });
      } else if (fingers.size === 1) {
        this.move({ x: this.camera.x + dx * reach, y: this.camera.y - dy * reach });
      } else {
        const other = [...fingers.values()].find((finger) => finger.pointerId !== event.pointerId);
        const was = Math.hypot(before.clientX - other.clientX, before.clientY - other.clientY);
        const is = Math.hypot(event.clientX - other.clientX, event.clientY - other.clientY);
        this.move({ near: this.camera.near * (is / Math.max(1, was)), x: this.camera.x + (dx * reach) / 2, y: this.camera.y - (dy * reach) / 2 });
      }
      fingers.set(event.pointerId, event);
    });
    for (const kind of ["pointerup", "pointercancel", "lostpointercapture"]) this.canvas.addEventListener(kind, (event) => fingers.delete(event.pointerId));
    // The wheel scrolls the page until the shape was taken hold of once.
    this.canvas.addEventListener("wheel", (event) => {
      if (!held && !event.ctrlKey) return;
      event.preventDefault();
      this.move({ near: this.camera.near * Math.exp(-event.deltaY * 0.0016) });
    }, { passive: false });
    this.canvas.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse" && !event.buttons) held = false; });
    this.canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    this.canvas.addEventListener("dblclick", () => this.move({ ...START }));
    this.canvas.addEventListener("keydown", (event) => {
      const c = this.camera, moves = { ArrowLeft: { yaw: c.yaw - 0.15 }, ArrowRight: { yaw: c.yaw + 0.15 }, ArrowUp: { pitch: c.pitch + 0.1 }, ArrowDown: { pitch: c.pitch - 0.1 }, "+": { near: c.near * 1.15 }, "=": { near: c.near * 1.15 }, "-": { near: c.near / 1.15 }, 0: { ...START } };
      if (!(event.key in moves) || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      event.stopPropagation();
      this.move(moves[event.key]);
    });
    this.canvas.addEventListener("webglcontextlost", (event) => { event.preventDefault(); this.state = "lost"; this.picture?.classList.remove("gone"); });
    this.themed = () => this.draw();
    document.addEventListener("theme", this.themed);
  }

  close() {
    this.closed = true;
    this.resize.disconnect();
    document.removeEventListener("theme", this.themed);
    this.gl?.getExtension("WEBGL_lose_context")?.loseContext();
  }
}

export function is_dark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** The bytes of a GLB -> { mode, places, normals, colours, indices, extras }. */
export function read_glb(buffer) {
  const data = new DataView(buffer);
  if (data.getUint32(0, true) !== 0x46546c67) throw new Error("no GLB");
  const length = data.getUint32(12, true);
  const told = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 20, length)));
  const begin = 20 + length + 8;
  const kinds = { 5121: Uint8Array, 5123: Uint16Array, 5125: Uint32Array, 5126: Float32Array }, widths = { SCALAR: 1, VEC3: 3, VEC4: 4 };
  const primitive = told.meshes[0].primitives[0];
  const array = (number) => {
    if (number === undefined) return null;
    const one = told.accessors[number], view = told.bufferViews[one.bufferView];
    return new kinds[one.componentType](buffer, begin + (view.byteOffset || 0), one.count * widths[one.type]);
  };
  const { POSITION, NORMAL, COLOR_0 } = primitive.attributes;
  return { mode: primitive.mode ?? 4, places: array(POSITION), normals: array(NORMAL), colours: array(COLOR_0), indices: array(primitive.indices), extras: told.asset.extras || {} };
}

/** Corners with normals: smooth where faces meet at less than 38 degrees, sharp where at more. */
export function smooth(places, indices, colours) {
  const corners = indices ?? Uint32Array.from({ length: places.length / 3 }, (_, i) => i);
  const faces = corners.length / 3, vertices = places.length / 3, limit = Math.cos((38 * Math.PI) / 180);
  // Vertices at one place are one; found by a hash table of places.
  const slots = 1 << Math.ceil(Math.log2(vertices * 2 + 2)), table = new Int32Array(slots).fill(-1), same = new Int32Array(vertices);
  const bits = new Int32Array(places.buffer, places.byteOffset, places.length);
  for (let v = 0; v < vertices; v++) {
    // -0 and 0 are the same place
    const a = bits[3 * v] === -2147483648 ? 0 : bits[3 * v], b = bits[3 * v + 1] === -2147483648 ? 0 : bits[3 * v + 1], c = bits[3 * v + 2] === -2147483648 ? 0 : bits[3 * v + 2];
    let slot = (Math.imul(a, 73856093) ^ Math.imul(b, 19349663) ^ Math.imul(c, 83492791)) & (slots - 1);
    for (;;) {
      const other = table[slot];
      if (other < 0) { table[slot] = v; same[v] = v; break; }
      if (places[3 * other] === places[3 * v] && places[3 * other + 1] === places[3 * v + 1] && places[3 * other + 2] === places[3 * v + 2]) { same[v] = other; break; }
      slot = (slot + 1) & (slots - 1);
    }
  }
  const cross = new Float32Array(faces * 3), unit = new Float32Array(faces * 3), start = new Int32Array(vertices + 1);
  for (let f = 0; f < faces; f++) {
    const [a, b, c] = [3 * corners[3 * f], 3 * corners[3 * f + 1], 3 * corners[3 * f + 2]];
    const ux = places[b] - places[a], uy = places[b + 1] - places[a + 1], uz = places[b + 2] - places[a + 2];
    const vx = places[c] - places[a], vy = places[c + 1] - places[a + 1], vz = places[c + 2] - places[a + 2];
    const x = uy * vz - uz * vy, y = uz * vx - ux * vz, z = ux * vy - uy * vx, long = Math.hypot(x, y, z) || 1;
    cross.set([x, y, z], 3 * f);
    unit.set([x / long, y / long, z / long], 3 * f);
    for (let k = 0; k < 3; k++) start[same[corners[3 * f + k]] + 1]++;
  }
  for (let v = 0; v < vertices; v++) start[v + 1] += start[v];
  const around = new Int32Array(faces * 3), fill = start.slice(0, vertices);
  for (let i = 0; i < faces * 3; i++) around[fill[same[corners[i]]]++] = Math.floor(i / 3);
  const out = new Float32Array(faces * 9), normals = new Float32Array(faces * 9), paint = colours && new Uint8Array(faces * 12);
  for (let i = 0; i < faces * 3; i++) {
    const v = corners[i], own = same[v], f = Math.floor(i / 3), ux = unit[3 * f], uy = unit[3 * f + 1], uz = unit[3 * f + 2];
    let x = 0, y = 0, z = 0;
    const end = start[own + 1] - start[own] > 64 ? start[own] : start[own + 1];
    for (let j = start[own]; j < end; j++) {
      const g = 3 * around[j], turned = ux * unit[g] + uy * unit[g + 1] + uz * unit[g + 2];
      // Faces wound the other way round count turned over.
      if (turned > limit) { x += cross[g]; y += cross[g + 1]; z += cross[g + 2]; }
      else if (turned < -limit) { x -= cross[g]; y -= cross[g + 1]; z -= cross[g + 2]; }
    }
    const long = Math.hypot(x, y, z);
    if (long > 0) { x /= long; y /= long; z /= long; } else [x, y, z] = [ux, uy, uz];
    out[3 * i] = places[3 * v]; out[3 * i + 1] = places[3 * v + 1]; out[3 * i + 2] = places[3 * v + 2];
    normals[3 * i] = x; normals[3 * i + 1] = y; normals[3 * i + 2] = z;
    if (paint) paint.set(colours.subarray(4 * v, 4 * v + 4), 4 * i);
  }
  return { places: out, normals, colours: paint };
}
