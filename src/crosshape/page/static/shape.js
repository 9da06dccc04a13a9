// One shape: it turns, its facts, and what is like it.

import { library, remembered } from "./api.js";
import { arrows } from "./grid.js";
import { base, bytes, count, empty, folder, h, note, segments, size, thumb, tile, front, view } from "./dom.js";
import { tag_field } from "./tagging.js";
import { START, Viewer } from "./viewer.js";

export async function shape(root, { rest: [id], query, go }) {
  const [about, facts] = await Promise.all([library(), remembered(`/shapes/${id}`)]);
  document.title = `${base(facts.name)} · crosshape`;
  const picture = thumb(facts, about.views);
  const viewer = new Viewer({ picture, label: base(facts.name) });
  const aborted = new AbortController();
  const held = session("held");

  const actions = h("div", { class: "row" },
    h("a", { class: "button strong", href: `/?like=${id}` }, "Similar to this"),
    held && held.id !== id ? h("a", { class: "button", href: `/compare/${held.id}/${id}`, title: `Beside ${held.name}` }, `Compare with ${base(held.name)}`) : null,
    h("button", { class: "button", type: "button", title: "Keep this shape at hand, to compare others with it (c)", onclick: hold }, "Hold to compare"),
    h("button", { class: "button", type: "button", onclick: copy }, "Copy path"));
  function hold() {
    session("held", { id, name: facts.name });
    note(`${base(facts.name)} is held. Open another shape to see the two side by side.`);
  }
  async function copy() {
    try {
      await navigator.clipboard.writeText(facts.path);
      note("The path is copied.", { seconds: 3 });
    } catch {
      note(facts.path, { seconds: 20 });
    }
  }

  const ring = h("div", { class: "ring", role: "group", "aria-label": "Stored views" }, Array.from({ length: about.views }, (_, number) =>
    h("button", { class: "thumb", type: "button", title: `View ${number + 1} of ${about.views}`, "aria-label": `Turn to view ${number + 1}`, onclick: () => viewer.move({ ...START, yaw: START.yaw - ((number - front(about.views)) * 2 * Math.PI) / about.views }) },
      h("img", { src: view(facts, number), alt: "", loading: "lazy" }))));
  const near = h("section", { "aria-label": "Similar shapes" });
  const where = folder(facts.name);
  root.append(h("div", { class: "sheet" },
    h("div", { class: "stays" }, viewer.root, ring),
    h("div", {},
      where ? h("p", { class: "crumbs" }, crumbs(where)) : null,
      h("h1", {}, base(facts.name)), table(facts), tag_field(facts), actions, near)));

  viewer.show(`/shapes/${id}/mesh.glb`, facts.radius, aborted.signal)
    .then((extras) => { if (extras.reason) viewer.say(`The stored points are shown: ${extras.reason}.`); })
    .catch((error) => { if (error.name !== "AbortError") viewer.say(error.message); });
  await similar(near, id, query.get("over") || "both", about, go);
  return {
    close: () => { aborted.abort(); viewer.close(); },
    keys: { c: hold },
    focus: () => near.querySelector("a.tile")?.focus(),
  };
}

function crumbs(where) {
  const parts = where.split("/");
  return parts.flatMap((part, i) => [i ? " / " : "", h("a", { href: `/?folder=${encodeURIComponent(parts.slice(0, i + 1).join("/"))}` }, part)]);
}

async function similar(root, id, over, about, go) {
  const choose = (value) => go(`/shape/${id}${value === "both" ? "" : `?over=${value}`}`, { replace: true, keep: true });
  root.append(h("div", { class: "row" }, h("h2", {}, "Similar shapes"), segments("Compared over", [["both", "both"], ["points", "points"], ["views", "views"]], over, choose)));
  try {
    const answer = await remembered("/search", { id, top: 24, over });
    root.append(hits(answer, about, id));
  } catch (error) {
    root.append(empty(error.title, error.message));
  }
}

/** Tiles of what was found. */
export function hits(answer, about, beside = null) {
  return arrows(h("div", { class: "flow" }, answer.hits.map((hit) => tile(hit, about.views, {
    score: hit.score,
    line: `${hit.score.toFixed(3)}${hit.name.includes("/") ? ` · ${folder(hit.name)}` : ""}`,
    actions: beside ? [["compare", `/compare/${beside}/${hit.id}`, "The two side by side"]] : [],
  }))));
}

export function lines(facts) {
  const told = [
    ["Format", `${facts.format}, ${bytes(facts.bytes)}`],
    [facts.faces ? "Faces" : "Points", count(facts.faces || facts.vertices)],
    ["Vertices", facts.faces ? count(facts.vertices) : null],
    ["Size", facts.extents.map(size).join(" × ")],
    ["Area", facts.area ? size(facts.area) : null],
    ["Changed", new Date(facts.changed / 1e6).toLocaleDateString(undefined, { year: "numeric", month: "short", day: "numeric" })],
  ];
  return told.filter(([, value]) => value !== null);
}

export function table(facts, other = null) {
  const others = other && Object.fromEntries(lines(other));
  const list = h("dl", { class: "facts" });
  for (const [name, value] of lines(facts)) list.append(h("dt", {}, name), h("dd", { class: others && others[name] !== value ? "differs" : "" }, value));
  if (facts.notes.length && !other) list.append(h("dt", {}, "Notes"), h("dd", {}, facts.notes.join("; ")));
  return list;
}

export function session(key, value) {
  try {
    if (value !== undefined) sessionStorage.setItem(key, JSON.stringify(value));
    return JSON.parse(sessionStorage.getItem(key));
  } catch {
    return null;
  }
}
