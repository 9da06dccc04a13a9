// The map: every shape has a place, like shapes near each other. Drag to move, wheel or pinch to come nearer.

import { ask, library } from "./api.js";
import { base, count, front, h, thumb, view } from "./dom.js";
import { is_dark } from "./viewer.js";

const COLOURS = ["#4c7fe6", "#e08a3c", "#2aa876", "#b05fd0", "#d9556b", "#38a7c2", "#b5a02c", "#7b74e0", "#5fae4c", "#d66bb0", "#8d8f98", "#c2703d"];
const pictures = new Map(); // kept between visits: id, theme, version -> canvas

export async function atlas(root, { query, go }) {
  const about = await library();
  document.title = `Map of ${about.name} · crosshape`;
  let map = await ask("/map");
  const canvas = h("canvas", { tabIndex: 0, role: "application", "aria-label": "Map of all shapes. Arrow keys move, plus and minus come nearer, Enter opens the shape in the middle." });
  const card = h("div", { class: "card", hidden: true }), say = h("span", { class: "say" });
  const legend = h("div", { class: "legend", role: "group", "aria-label": "Folders" });
  const tools = h("div", { class: "tools" },
    ...[["+", "Nearer", () => zoom(1.6)], ["−", "Further", () => zoom(1 / 1.6)], ["◻", "All of it", () => { home(); draw(); }]].map(([text, label, act]) => h("button", { class: "button", type: "button", "aria-label": label, title: label, onclick: act }, text)));
  const box = h("div", { class: "atlas" }, canvas, say, tools, legend, card);
  root.append(box);
  const pen = canvas.getContext("2d");

  let wide = 1, high = 1, sharp = 1, closed = false, over = -1, chosen = -1, waiting = false;
  let x = Float32Array.from(map.x, (v) => v / 1e4), y = Float32Array.from(map.y, (v) => v / 1e4);
  let cells = sorted();
  const lens = { x: 0.5, y: 0.5, zoom: 1 };
  // The square of the places is stretched to the window, within bounds.
  const unit_x = () => Math.min(wide, 1.8 * high) * 0.88 * lens.zoom, unit_y = () => Math.min(high, 1.8 * wide) * 0.88 * lens.zoom;
  const home = () => Object.assign(lens, { x: 0.5, y: 0.5, zoom: 1 });
  for (const key of ["x", "y", "zoom"]) if (Number.isFinite(parseFloat(query.get(key)))) lens[key] = parseFloat(query.get(key));
  for (const [i, label] of map.labels.slice(0, COLOURS.length).entries()) {
    const button = h("button", { type: "button", "aria-pressed": "false", onclick: () => { chosen = chosen === i ? -1 : i; [...legend.children].forEach((one, j) => one.setAttribute("aria-pressed", String(j === chosen))); draw(); } }, h("i"), label);
    button.firstChild.style.background = COLOURS[i];
    legend.append(button);
  }
  legend.hidden = !map.labels.length;
  words();

  function words() {
    say.textContent = `${count(map.ids.length)} shapes, like ones together${map.final ? "" : " · still sorting itself out"}`;
  }

  /** Shapes by cell of a 64 x 64 raster, to find those near a place. */
  function sorted() {
    const found = Array.from({ length: 4096 }, () => []);
    for (let i = 0; i < x.length; i++) found[cell(x[i], y[i])].push(i);
    return found;
  }
  function cell(a, b) {
    return Math.max(0, Math.min(63, Math.floor(b * 64))) * 64 + Math.max(0, Math.min(63, Math.floor(a * 64)));
  }
  const to_screen = (i) => [(x[i] - lens.x) * unit_x() + wide / 2, (y[i] - lens.y) * unit_y() + high / 2];
  function seen() {
    const reach = [wide / unit_x() / 2 + 0.02, high / unit_y() / 2 + 0.02], list = [];
    const [left, right] = [lens.x - reach[0], lens.x + reach[0]], [top, bottom] = [lens.y - reach[1], lens.y + reach[1]];
    for (let row = Math.max(0, Math.floor(top * 64)); row <= Math.min(63, Math.floor(bottom * 64)); row++) {
      for (let column = Math.max(0, Math.floor(left * 64)); column <= Math.min(63, Math.floor(right * 64)); column++) {
        for (const i of cells[row * 64 + column]) list.push(i);
      }
    }
    return list;
  }

  function draw() {
    if (waiting || closed) return;
    waiting = true;
    requestAnimationFrame(paint);
  }
  function paint() {
    waiting = false;
    if (closed) return;
    pen.setTransform(sharp, 0, 0, sharp, 0, 0);
    pen.clearRect(0, 0, wide, high);
    const list = seen(), room = Math.sqrt((wide * high) / Math.max(1, list.length));
    const side = Math.min(128, room * 0.78), near = side >= 30 && list.length <= 900;
    if (near) {
      for (const i of list) {
        const faded = chosen >= 0 && map.label[i] !== chosen;
        const [a, b] = to_screen(i), image = picture(i);
        pen.globalAlpha = faded ? 0.16 : 1;
        if (image) pen.drawImage(image, a - side / 2, b - side / 2, side, side);
        else dot(i, a, b, 3);
      }
    } else {
      const radius = Math.max(1.3, Math.min(5, room / 7));
      for (const i of list) {
        pen.globalAlpha = chosen >= 0 && map.label[i] !== chosen ? 0.12 : list.length > 20000 ? 0.7 : 0.9;
        dot(i, ...to_screen(i), radius);
      }
    }
    pen.globalAlpha = 1;
    if (over >= 0) {
      const [a, b] = to_screen(over);
      pen.strokeStyle = getComputedStyle(box).getPropertyValue("--ours");
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(a, b, near ? side / 2 : 8, 0, 7);
      pen.stroke();
    }
  }
  function dot(i, a, b, radius) {
    pen.fillStyle = colour(i);
    pen.beginPath();
    pen.arc(a, b, radius, 0, 7);
    pen.fill();
  }

  function colour(i) {
    return COLOURS[map.label[i]] || "#8d93a3";
  }

  /** The picture of a shape with its ground taken away; asked for when first wanted. */
  function picture(i) {
    const key = `${map.ids[i]} ${is_dark()} ${map.version}`; // a shape that was replaced keeps its id
    const kept = pictures.get(key);
    if (kept !== undefined) return kept;
    pictures.set(key, null);
    if (pictures.size > 3000) pictures.delete(pictures.keys().next().value);
    const image = new Image();
    image.onload = () => {
      pictures.set(key, cut_out(image, colour(i)));
      draw();
    };
    image.src = `/shapes/${map.ids[i]}/views/${front(about.views)}.png`;
    return null;
  }

  function nearest(a, b) {
    const list = seen();
    let best = -1, least = Infinity;
    for (const i of list) {
      const [left, top] = to_screen(i), away = (left - a) ** 2 + (top - b) ** 2;
      if (away < least) [best, least] = [i, away];
    }
    return Math.sqrt(least) <= Math.max(18, Math.min(60, Math.sqrt((wide * high) / Math.max(1, list.length)) * 0.5)) ? best : -1;
  }

  let asking = 0;
  async function point(i, a, b) {
    if (i === over) return;
    over = i;
    canvas.classList.toggle("over", i >= 0);
    draw();
    card.hidden = true;
    if (i < 0) return;
    const mine = ++asking;
    await new Promise((done) => setTimeout(done, 60));
    if (mine !== asking || closed) return;
    const page = await ask("/shapes", { offset: i, limit: 1 }).catch(() => null);
    if (mine !== asking || closed || !page?.shapes[0]) return;
    const shape = page.shapes[0];
    card.replaceChildren(thumb(shape, about.views), h("b", {}, base(shape.name)));
    card.hidden = false;
    const [left, top] = to_screen(i);
    card.style.left = `${Math.min(wide - 160, left + 22)}px`;
    card.style.top = `${Math.max(8, Math.min(high - 190, top - 90))}px`;
  }

  let keeping = 0;
  function moved() {
    over = -1;
    card.hidden = true;
    draw();
    clearTimeout(keeping);
    keeping = setTimeout(() => {
      if (closed) return;
      const at = `/atlas?x=${lens.x.toFixed(4)}&y=${lens.y.toFixed(4)}&zoom=${lens.zoom.toFixed(3)}`;
      history.replaceState(history.state, "", at);
    }, 250);
  }
  function zoom(by, a = wide / 2, b = high / 2) {
    const px = (a - wide / 2) / unit_x() + lens.x, py = (b - high / 2) / unit_y() + lens.y;
    lens.zoom = Math.max(0.6, Math.min(400, lens.zoom * by));
    lens.x = px - (a - wide / 2) / unit_x();
    lens.y = py - (b - high / 2) / unit_y();
    moved();
  }

  const fingers = new Map();
  let travelled = 0;
  const place = (event) => { const at = canvas.getBoundingClientRect(); return [event.clientX - at.left, event.clientY - at.top]; };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); fingers.set(event.pointerId, place(event)); if (fingers.size === 1) travelled = 0; });
  canvas.addEventListener("pointermove", (event) => {
    const [a, b] = place(event), before = fingers.get(event.pointerId);
    if (!before) { point(nearest(a, b), a, b); return; }
    travelled += Math.hypot(a - before[0], b - before[1]);
    if (fingers.size === 2) {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      zoom(Math.hypot(a - other[0], b - other[1]) / Math.max(1, Math.hypot(before[0] - other[0], before[1] - other[1])), (a + other[0]) / 2, (b + other[1]) / 2);
    } else if (travelled > 4) {
      lens.x -= (a - before[0]) / unit_x();
      lens.y -= (b - before[1]) / unit_y();
      moved();
    }
    fingers.set(event.pointerId, [a, b]);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (fingers.size === 1 && travelled <= 4) {
      const i = nearest(...place(event));
      if (i >= 0) go(`/shape/${map.ids[i]}`);
    }
    fingers.delete(event.pointerId);
  });
  canvas.addEventListener("pointercancel", (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => point(-1));
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY * 0.0018), ...place(event)); }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const [right, down] = [80 / unit_x(), 80 / unit_y()], moves = { ArrowLeft: [-right, 0], ArrowRight: [right, 0], ArrowUp: [0, -down], ArrowDown: [0, down] };
    if (event.ctrlKey || event.metaKey) return;
    if (event.key in moves) { lens.x += moves[event.key][0]; lens.y += moves[event.key][1]; moved(); point(nearest(wide / 2, high / 2)); }
    else if (event.key === "+" || event.key === "=") zoom(1.4);
    else if (event.key === "-") zoom(1 / 1.4);
    else if (event.key === "0") { home(); moved(); }
    else if (event.key === "Enter") { const i = over >= 0 ? over : nearest(wide / 2, high / 2); if (i >= 0) go(`/shape/${map.ids[i]}`); }
    else return;
    event.preventDefault();
  });
  const resize = new ResizeObserver(() => {
    sharp = Math.min(devicePixelRatio || 1, 2);
    wide = canvas.clientWidth || 1;
    high = canvas.clientHeight || 1;
    canvas.width = wide * sharp;
    canvas.height = high * sharp;
    draw();
  });
  resize.observe(canvas);
  document.addEventListener("theme", draw);

  // Until the layout is final: ask again, and let the shapes wander to their new places.
  let asked = 0;
  async function refine() {
    if (closed) return;
    const next = await ask("/map").catch(() => null);
    if (closed) return;
    if (next && next.ids.length === map.ids.length && next.final) {
      const from = [x, y], to = [Float32Array.from(next.x, (v) => v / 1e4), Float32Array.from(next.y, (v) => v / 1e4)], begun = performance.now();
      map = next;
      words();
      const step = (now) => {
        const t = Math.min(1, (now - begun) / 1400), ease = t * t * (3 - 2 * t);
        x = from[0].map((v, i) => v + (to[0][i] - v) * ease);
        y = from[1].map((v, i) => v + (to[1][i] - v) * ease);
        cells = sorted();
        paint();
        if (t < 1 && !closed) requestAnimationFrame(step);
      };
      requestAnimationFrame(step);
    } else asked = setTimeout(refine, map.ids.length > 20000 ? 8000 : 1500);
  }
  if (!map.final) asked = setTimeout(refine, 1200);
  return { close: () => { closed = true; clearTimeout(asked); clearTimeout(keeping); resize.disconnect(); document.removeEventListener("theme", draw); }, focus: () => canvas.focus() };
}

/** An image on white -> a small canvas of the shape alone, in a colour, brighter in the dark. */
function cut_out(image, colour) {
  const side = 128, made = h("canvas", { width: side, height: side }), pen = made.getContext("2d", { willReadFrequently: true });
  pen.drawImage(image, 0, 0, side, side);
  const all = pen.getImageData(0, 0, side, side), data = all.data, light = is_dark() ? 1.25 : 1.12;
  const tint = [1, 3, 5].map((at) => 0.45 * parseInt(colour.slice(at, at + 2), 16) + 0.55 * 190);
  for (let i = 0; i < data.length; i += 4) {
    const grey = data[i];
    data[i + 3] = Math.min(255, (255 - grey) * 5.67);
    for (let k = 0; k < 3; k++) data[i + k] = Math.min(255, ((grey + 30) / 210) * light * tint[k]);
  }
  pen.putImageData(all, 0, 0);
  return made;
}
