// What is like something that was brought, or like several things together. The address of what was brought works as
// long as the server remembers it.

import { library, remembered } from "./api.js";
import { base, bytes, count, empty, front, h, segments, size, view } from "./dom.js";
import { hits } from "./shape.js";

const MOST = 8;

/** The address of a search by several shapes and uploads; of one upload, its own. */
export function address_of(asked, over = "both") {
  const words = asked.map((one) => [one.kind === "library" ? "id" : "token", one.kind === "library" ? one.id : one.token]);
  const rest = new URLSearchParams(words.length === 1 && words[0][0] === "token" ? [] : words);
  if (over !== "both") rest.set("over", over);
  return `/found${words.length === 1 && words[0][0] === "token" ? `/${words[0][1]}` : ""}${String(rest) && `?${rest}`}`;
}

export async function found(root, { rest: [token], query, go }) {
  const about = await library(), over = query.get("over") || "both";
  const words = token ? [["token", token]] : [...query].filter(([key]) => key === "id" || key === "token");
  if (!words.length) { root.append(empty("Nothing is asked for", "Drop a shape file or a picture here.")); return null; }
  const answer = await remembered(`/search?${new URLSearchParams(words)}`, { top: 48, over });
  const asked = answer.query.queries || [answer.query], several = asked.length > 1;
  const pictured = asked.some((one) => one.kind === "picture");
  document.title = `Like ${several ? `these ${asked.length}` : asked[0].name} · crosshape`;
  const choose = (value) => go(address_of(asked, value), { replace: true, keep: true });
  const more = asked.length < MOST ? h("label", { class: "button bring", title: "Search by this and another file together" },
    h("input", { type: "file", id: "more", accept: about.reads.join(","), onchange: (event) => { if (event.target.files[0]) document.dispatchEvent(new CustomEvent("bring", { detail: { file: event.target.files[0], more: words } })); } }),
    h("span", {}, "Add a file")) : null;
  root.append(
    several ? together(asked, about, over, more, go) : alone(asked[0], about, answer, more),
    h("section", { "aria-label": several ? "What is like them" : "What is like it" },
      h("div", { class: "row" }, h("h2", {}, several ? "Most like them" : "Most like it"), pictured ? null : segments("Compared over", [["both", "both"], ["points", "points"], ["views", "views"]], over, choose)),
      note_of(answer),
      answer.hits.length ? hits(answer, about, { add: asked.length < MOST ? (hit) => address_of([...asked, { kind: "library", id: hit.id }], over) : null }) : empty("Nothing to show", "")));
  return { focus: () => root.querySelector("a.tile")?.focus() };
}

/** What was asked for: a picture of it that turns under the pointer. */
function portrait(one, about) {
  const pictures = one.kind === "library" ? Array.from({ length: about.views }, (_, number) => view(one, number)) : one.pictures;
  const image = h("img", { src: pictures[pictures.length > 1 ? front(pictures.length) : 0], alt: `Asked for: ${base(one.name)}` });
  const frame = h("div", { class: "thumb" }, image);
  if (pictures.length > 1) {
    frame.addEventListener("pointermove", (event) => {
      const box = frame.getBoundingClientRect();
      image.src = pictures[Math.max(0, Math.min(pictures.length - 1, Math.floor(((event.clientX - box.left) / box.width) * pictures.length)))];
    });
  }
  return frame;
}

function alone(asked, about, answer, more) {
  const shape = asked.kind !== "picture", extents = asked.extents;
  const told = shape ? [`${asked.format}, ${bytes(asked.bytes)}`, `${count(asked.faces || asked.vertices)} ${asked.faces ? "faces" : "points"}`, extents?.map(size).join(" × ")].filter(Boolean).join(" · ") : "The object as the model sees it: cut out, grey, on white.";
  return h("div", { class: "brought" }, portrait(asked, about), h("div", {},
    h("h1", {}, asked.name), h("p", { class: "soft numbers" }, told),
    asked.notes?.length ? h("p", { class: "soft" }, asked.notes.join("; ")) : null,
    verdict(answer), more && h("p", { class: "row" }, more)));
}

function together(asked, about, over, more, go) {
  const cards = asked.map((one, at) => h("li", {}, portrait(one, about), h("b", { title: one.name }, base(one.name)),
    h("button", { class: "icon", type: "button", "aria-label": `Search without ${base(one.name)}`, title: "Search without it", onclick: () => go(address_of(asked.filter((_, i) => i !== at), over)) }, "×")));
  return h("div", {},
    h("div", { class: "head" }, h("h1", {}, `Like these ${asked.length} together`), h("span", { class: "soft" }, "by the mean of their scores")),
    h("ul", { class: "asked", "aria-label": "Asked for" }, cards, more && h("li", {}, more)));
}

/** How the hits were found, where not every shape was compared. */
export function note_of(answer) {
  return answer.note ? h("p", { class: "soft numbers", id: "how" }, answer.note) : null;
}

/** Whether the best hit means anything in this library. */
export function verdict(answer) {
  const best = answer.hits[0];
  if (!best || !answer.usual) return null;
  const { low, middle } = answer.usual, usual = `shapes here usually reach ${middle.toFixed(2)} with their nearest neighbour`;
  if (answer.nothing_like_this) return h("p", { class: "verdict none" }, h("b", {}, "Nothing like this here. "), `The best score is ${best.score.toFixed(2)}; ${usual}.`);
  if (best.score >= middle) return h("p", { class: "verdict fine" }, `A close match: ${best.score.toFixed(2)}; ${usual}.`);
  return h("p", { class: "verdict" }, `The best score is ${best.score.toFixed(2)}; ${usual}, hardly any less than ${low.toFixed(2)}.`);
}
