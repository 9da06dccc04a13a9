// What is like something that was brought; its address works as long as the server remembers it.

import { library, remembered } from "./api.js";
import { bytes, count, empty, h, segments, size } from "./dom.js";
import { hits } from "./shape.js";

export async function found(root, { rest: [token], query, go }) {
  const about = await library(), over = query.get("over") || "both";
  const answer = await remembered(`/search/${token}`, { top: 48, over });
  const asked = answer.query, shape = asked.kind === "shape";
  document.title = `Like ${asked.name} · crosshape`;
  const image = h("img", { src: asked.pictures[Math.round(asked.pictures.length / 8) % asked.pictures.length], alt: `What was brought: ${asked.name}` });
  const frame = h("div", { class: "thumb" }, image);
  if (asked.pictures.length > 1) {
    frame.addEventListener("pointermove", (event) => {
      const box = frame.getBoundingClientRect();
      image.src = asked.pictures[Math.max(0, Math.min(asked.pictures.length - 1, Math.floor(((event.clientX - box.left) / box.width) * asked.pictures.length)))];
    });
  }
  const told = shape ? `${asked.format}, ${bytes(asked.bytes)} · ${count(asked.faces || asked.vertices)} ${asked.faces ? "faces" : "points"} · ${asked.extents.map(size).join(" × ")}` : "The object as the model sees it: cut out, grey, on white.";
  const choose = (value) => go(`/found/${token}${value === "both" ? "" : `?over=${value}`}`, { replace: true, keep: true });
  root.append(
    h("div", { class: "brought" }, frame, h("div", {},
      h("h1", {}, asked.name), h("p", { class: "soft numbers" }, told),
      asked.notes?.length ? h("p", { class: "soft" }, asked.notes.join("; ")) : null,
      verdict(answer))),
    h("section", { "aria-label": "What is like it" },
      h("div", { class: "row" }, h("h2", {}, "Most like it"), shape ? segments("Compared over", [["both", "both"], ["points", "points"], ["views", "views"]], over, choose) : null),
      answer.hits.length ? hits(answer, about) : empty("Nothing to show", "")));
  return { focus: () => root.querySelector("a.tile")?.focus() };
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
