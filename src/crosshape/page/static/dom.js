// Small helpers to build the page. Text is only ever set as text: a name cannot become markup.

export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = value;
    else if (key in element && key !== "list") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const count = (number) => number.toLocaleString("en");

export function size(number) {
  return Number(number.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });
}

export function bytes(number) {
  for (const [unit, of] of [["GB", 2 ** 30], ["MB", 2 ** 20], ["kB", 2 ** 10]]) {
    if (number >= of) return `${(number / of).toPrecision(3)} ${unit}`;
  }
  return `${number} bytes`;
}

export const base = (name) => name.slice(name.lastIndexOf("/") + 1);
export const folder = (name) => (name.includes("/") ? name.slice(0, name.lastIndexOf("/")) : "");

/** Which stored view shows a shape best: a little from the side. */
export const front = (views) => Math.round(views / 8) % views;

export const view = (shape, number) => `/shapes/${shape.id}/views/${number}.png?v=${shape.picture}`;

/** A picture of a shape that turns as the pointer moves over it. */
export function thumb(shape, views, now = true) {
  const first = view(shape, front(views));
  const image = h("img", { alt: "", decoding: "async", draggable: false, class: "wait", onload: () => image.classList.remove("wait") });
  const frame = h("span", { class: "thumb" }, image);
  const loaded = new Map();
  frame.start = () => { if (!image.src) image.src = first; };
  if (now) frame.start();
  frame.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch") return;
    const box = frame.getBoundingClientRect();
    const number = Math.min(views - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * views)));
    const address = view(shape, (front(views) + number) % views);
    frame.wanted = address;
    let next = loaded.get(address);
    if (!next) {
      next = new Image();
      next.src = address;
      loaded.set(address, next);
    }
    const show = () => { if (frame.wanted === address) image.src = address; };
    if (next.complete) show(); else next.onload = show;
  });
  frame.addEventListener("pointerleave", () => { frame.wanted = first; if (image.src) image.src = first; });
  return frame;
}

/** A shape in a list: its picture, its name, a line about it, and what can be done with it. */
export function tile(shape, views, { line, score, actions = [], now = true, like = true } = {}) {
  const frame = thumb(shape, views, now);
  const told = line ?? [folder(shape.name), `${count(shape.faces || shape.vertices)} ${shape.faces ? "faces" : "points"}`].filter(Boolean).join(" · ");
  const link = h("a", { class: "tile", href: `/shape/${shape.id}`, title: shape.name, draggable: false },
    frame,
    score !== undefined && h("span", { class: "score" }, meter(score)),
    h("b", {}, base(shape.name)), h("small", { class: "numbers" }, told));
  link.dataset.id = shape.id;
  link.frame = frame;
  const more = [...actions];
  if (like) more.push(["similar", `/?like=${shape.id}`, "Shapes like this one"]);
  if (more.length) frame.append(h("span", { class: "act" }, more.map(([text, href, title]) => action(text, href, title))));
  return link;
}

// A link within a link is no HTML: these go where they say by a click on a span that is focusable.
function action(text, href, title) {
  const open = (event) => {
    if (event.type === "keydown" && event.key !== "Enter") return;
    event.preventDefault();
    event.stopPropagation();
    document.dispatchEvent(new CustomEvent("go", { detail: href }));
  };
  return h("span", { role: "link", tabIndex: 0, title, onclick: open, onkeydown: open }, text);
}

function meter(score) {
  const bar = h("i");
  bar.style.width = `${Math.max(2, Math.min(1, score) * 100)}%`;
  return bar;
}

/** One of several choices. */
export function segments(label, choices, chosen, choose) {
  const buttons = choices.map(([value, text]) => h("button", { type: "button", "aria-pressed": String(value === chosen), onclick: () => choose(value) }, text));
  return h("div", { class: "segments", role: "group", "aria-label": label }, buttons);
}

export function empty(title, text, ...more) {
  return h("div", { class: "empty" }, h("h1", {}, title), text && h("p", {}, text), ...more);
}

/** A message in the corner; it stays until it is closed if it has no time. Returns what closes it. */
export function note(text, { bad = false, seconds = 6, action = null, busy = false } = {}) {
  const box = h("div", { class: bad ? "note bad" : "note" }, busy && h("span", { class: "spin" }), h("span", {}, text));
  const close = () => box.remove();
  if (action) box.append(h("button", { class: "button", type: "button", onclick: () => { close(); action[1](); } }, action[0]));
  if (!busy) box.append(h("button", { class: "icon", type: "button", "aria-label": "Close", onclick: close }, "×"));
  document.getElementById("notes").append(box);
  if (seconds && !busy) setTimeout(close, seconds * 1000);
  return close;
}
