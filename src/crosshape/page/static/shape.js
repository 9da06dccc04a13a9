// One shape: it turns, its facts, and what is like it.

import { library, remembered } from "./api.js";
import { arrows } from "./grid.js";
import { base, bytes, count, empty, folder, h, note, segments, size, thumb, tile, front, view } from "./dom.js";
import { note_of } from "./found.js";
import { tag_field } from "./tagging.js";
import { START, Viewer } from "./viewer.js";

export async function shape(root, { rest: [id], query, go }) {
  const [about, facts] = await Promise.all([library(), remembered(`/shapes/${id}`)]);
  document.title = `${base(facts.name)} · crosshape`;
  const picture = thumb(facts, about.views);
  const viewer = new Viewer({ picture, label: base(facts.name) });
  const held = session("held"), over = query.get("over") || "both";
  const colours = colouring(facts, about, viewer, go);

  const actions = h("div", { class: "row" },
    h("a", { class: "button strong", href: `/?like=${id}` }, "Similar to this"),
    held && held.id !== id ? h("a", { class: "button", href: `/compare/${held.id}/${id}`, title: `Beside ${held.name}` }, `Compare with ${base(held.name)}`) : null,
    held && held.id !== id ? h("a", { class: "button", href: `/found?id=${held.id}&id=${id}`, title: `What is like ${held.name} and this shape` }, "Search by both") : null,
    colours.button,
    h("button", { class: "button", type: "button", title: "Keep this shape at hand, to compare others with it (c)", onclick: hold }, "Hold to compare"),
    h("button", { class: "button", type: "button", onclick: copy }, "Copy path"));
  function hold() {
    session("held", { id, name: facts.name });
    note(`${base(facts.name)} is held. Open another shape to see the two side by side, or to search by both.`);
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
    h("div", { class: "stays" }, viewer.root, ring, colours.root),
    h("div", {},
      where ? h("p", { class: "crumbs" }, crumbs(where)) : null,
      h("h1", {}, base(facts.name)), table(facts), tag_field(facts), actions, near)));

  colours.show(query);
  return {
    settled: similar(near, id, over, about, go),
    close: () => { colours.close(); viewer.close(); },
    update: (next) => (next.get("over") || "both") === over && colours.show(next),
    keys: { c: hold, ...(colours.button ? { p: colours.toggle } : {}) },
    focus: () => near.querySelector("a.tile")?.focus(),
  };
}

/** The address of this view with other choices; null takes one away. */
function changed(values) {
  const next = new URLSearchParams(location.search);
  for (const [key, value] of Object.entries(values)) if (value) next.set(key, value); else next.delete(key);
  return `${location.pathname}${String(next) && `?${next}`}`;
}

/** The shape as it is, or in the colours of its parts: `?parts=1`, `&class=NAME`; in the address, so that back works. */
function colouring(facts, about, viewer, go) {
  const classes = Object.keys(about.parts), root = h("section", { class: "parts", "aria-label": "Parts", hidden: true });
  const toggle = () => go(changed(button.getAttribute("aria-pressed") === "true" ? { parts: null, class: null } : { parts: "1" }), { keep: true });
  const button = classes.length ? h("button", { class: "button", type: "button", id: "parts", "aria-pressed": "false", title: "The parts of the shape in colours (p)", onclick: toggle }, "Parts") : null;
  let aborted = new AbortController(), shown = null;
  function show(query) {
    const parts = button !== null && query.get("parts") !== null, category = query.get("class") || "";
    const address = parts ? `/shapes/${facts.id}/parts.glb${category && `?class=${encodeURIComponent(category)}`}` : `/shapes/${facts.id}/mesh.glb`;
    if (address === shown) return true;
    shown = address;
    aborted.abort();
    aborted = new AbortController();
    button?.setAttribute("aria-pressed", String(parts));
    root.hidden = !parts;
    if (parts && !root.childElementCount) root.append(h("p", { class: "row soft" }, h("span", { class: "spin" }), "Looking for the parts …"));
    viewer.say("");
    viewer.show(address, facts.radius, aborted.signal)
      .then((extras) => {
        if (extras.reason) viewer.say(`The stored points are shown: ${extras.reason}.`);
        if (parts) root.replaceChildren(...legend(extras, category));
      })
      .catch((error) => {
        if (error.name === "AbortError") return;
        viewer.say(error.message);
        root.replaceChildren(h("p", { class: "verdict none" }, error.message));
      });
    return true;
  }
  function legend(extras, category) {
    const choose = h("select", { "aria-label": "Class of the shape", title: "Whose parts are looked for", onchange: () => go(changed({ class: choose.value }), { keep: true }) },
      h("option", { value: "" }, category ? "as its features tell" : `${extras.class}, as its features tell`), classes.map((one) => h("option", { value: one }, one)));
    choose.value = category;
    const there = extras.parts.filter((part) => part.share > 0);
    return [h("div", { class: "row" }, h("h2", {}, "Parts"), choose), h("ul", { class: "keyed" }, there.map((part) => {
      const patch = h("i");
      patch.style.background = part.colour;
      return h("li", {}, patch, `${part.name} `, h("span", { class: "soft numbers" }, `${part.share < 0.005 ? "under 1" : Math.round(100 * part.share)} %`));
    }))];
  }
  return { root, button, toggle, show, close: () => aborted.abort() };
}

function crumbs(where) {
  const parts = where.split("/");
  return parts.flatMap((part, i) => [i ? " / " : "", h("a", { href: `/?folder=${encodeURIComponent(parts.slice(0, i + 1).join("/"))}` }, part)]);
}

async function similar(root, id, over, about, go) {
  const choose = (value) => go(changed({ over: value === "both" ? null : value }), { replace: true, keep: true });
  root.append(h("div", { class: "row" }, h("h2", {}, "Similar shapes"), segments("Compared over", [["both", "both"], ["points", "points"], ["views", "views"]], over, choose)));
  try {
    const answer = await remembered("/search", { id, top: 24, over });
    root.append(note_of(answer) || "", hits(answer, about, { beside: id, add: (hit) => `/found?id=${id}&id=${hit.id}` }));
  } catch (error) {
    root.append(empty(error.title, error.message));
  }
}

/** Tiles of what was found. beside: the id of a shape to compare them with; add(hit): the address of a search by it too. */
export function hits(answer, about, { beside = null, add = null } = {}) {
  return arrows(h("div", { class: "flow" }, answer.hits.map((hit) => tile(hit, about.views, {
    score: hit.score,
    line: `${hit.score.toFixed(3)}${hit.name.includes("/") ? ` · ${folder(hit.name)}` : ""}`,
    actions: [beside && ["compare", `/compare/${beside}/${hit.id}`, "The two side by side"], add && ["add", add(hit), "Search by this one as well"]].filter(Boolean),
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
