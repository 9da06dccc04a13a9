// Duplicates: pairs side by side, to be marked. Nothing is ever deleted.

import { ask, library, remembered } from "./api.js";
import { twins } from "./compare.js";
import { arrows } from "./grid.js";
import { base, count, empty, folder, h, note, segments, thumb } from "./dom.js";
import { table } from "./shape.js";

const WORDS = { same: "the same", different: "different", unsure: "not sure" };
const list_of = (query) => (pair) => (!query.get("kind") || pair.kind === query.get("kind")) && (query.get("show") !== "open" || !pair.mark);
const address = (pair, query) => `/review/${pair.a.id}/${pair.b.id}${String(query) && `?${query}`}`;

export async function review(root, { rest: [a, b], query, go }) {
  const about = await library();
  document.title = `Duplicates in ${about.name} · crosshape`;
  const found = await ask("/duplicates");
  const look = async () => {
    try {
      await ask("/duplicates", {}, { method: "POST" });
    } catch (error) {
      note(error.message, { bad: true });
    }
    go("/review", { replace: true });
  };
  if (found.state === "looking") return looking(root, found, go);
  if (found.state === "not-looked-for") {
    root.append(empty("Shapes that are there twice", found.failed || `Copies, moved, scaled, mirrored or re-meshed ones among the ${count(about.shapes)} shapes are found by laying them on each other. This takes a while for many; the page stays usable, and nothing is deleted.`,
      h("button", { class: "button strong", type: "button", id: "look", onclick: look }, "Look for duplicates")));
    return null;
  }
  const shown = found.pairs.filter(list_of(query));
  if (a) return one(root, { found, shown, a, b, about, query, go });

  const kinds = [...new Set(found.pairs.map((pair) => pair.kind))];
  const change = (key, value) => {
    const next = new URLSearchParams(query);
    if (value) next.set(key, value); else next.delete(key);
    go(`/review${String(next) && `?${next}`}`, { replace: true });
  };
  const marked = found.pairs.filter((pair) => pair.mark).length;
  root.append(
    h("div", { class: "head" }, h("h1", {}, "Duplicates"), h("span", { class: "soft numbers" }, `${count(found.pairs.length)} pairs, ${count(marked)} marked`)),
    h("div", { class: "filters" },
      segments("Kind", [["", "all"], ...kinds.map((kind) => [kind, `${kind} (${found.pairs.filter((pair) => pair.kind === kind).length})`])], query.get("kind") || "", (value) => change("kind", value)),
      segments("Marks", [["", "all"], ["open", "not marked"]], query.get("show") || "", (value) => change("show", value)),
      h("a", { class: "button", href: "/duplicates/table.csv", download: "duplicates.csv" }, "Table"),
      h("button", { class: "button", type: "button", onclick: look }, "Look again")),
    found.state === "old" ? h("p", { class: "verdict" }, "The library has changed since; look again for what is new.") : "");
  if (!shown.length) root.append(empty(found.pairs.length ? "No pair passes" : "Nothing is there twice", found.pairs.length ? "" : "No two shapes lie on each other."));
  // Long lists are shown in portions, as far as someone scrolls.
  const list = arrows(h("div", { class: "groups" }));
  const more = h("div");
  let at = 0;
  const add = () => { list.append(...shown.slice(at, at + 60).map((pair) => row(pair, about, query))); at += 60; if (at >= shown.length) watch.disconnect(); };
  const watch = new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) add(); }, { rootMargin: "600px" });
  add();
  if (at < shown.length) watch.observe(more);
  root.append(list, more);
  return { close: () => watch.disconnect(), focus: () => list.querySelector("a")?.focus() };
}

function row(pair, about, query) {
  return h("a", { class: "twin", href: address(pair, query) }, thumb(pair.a, about.views), thumb(pair.b, about.views),
    h("span", {}, place(pair.a.name), place(pair.b.name), h("small", { class: "soft" }, pair.evidence)),
    h("span", { class: "row" }, h("span", { class: "chip" }, pair.kind), pair.mark ? h("span", { class: `chip ${pair.mark}` }, WORDS[pair.mark]) : null));
}

const place = (name) => h("b", {}, base(name), folder(name) && h("small", { class: "soft" }, ` ${folder(name)}`));

function looking(root, found, go) {
  const { what, done, total } = found.progress;
  const words = h("p", { class: "numbers" });
  const tell = (progress) => { words.textContent = progress.total ? `${progress.what}: ${count(progress.done)} of ${count(progress.total)}` : `${progress.what} …`; };
  tell({ what, done, total });
  root.append(empty("Looking for duplicates", "", h("span", { class: "spin" }), words));
  const timer = setInterval(async () => {
    const next = await ask("/duplicates").catch(() => null);
    if (!next) return;
    if (next.state === "looking") tell(next.progress);
    else go("/review", { replace: true });
  }, 1000);
  return { close: () => clearInterval(timer) };
}

async function one(root, { found, shown, a, b, about, query, go }) {
  const pair = found.pairs.find((one) => one.a.id === a && one.b.id === b);
  if (!pair) { root.append(empty("This pair is not among the duplicates", "The library may have changed.", h("a", { class: "button", href: "/review" }, "All pairs"))); return null; }
  const facts = await Promise.all([a, b].map((id) => remembered(`/shapes/${id}`)));
  const both = twins(facts[0], facts[1], about.views);
  const at = shown.findIndex((one) => one.a.id === a && one.b.id === b);
  const next = shown.slice(at + 1).find((one) => !one.mark) || shown.slice(0, Math.max(0, at)).find((one) => !one.mark && one !== pair);
  const step = (by) => { const to = shown[at + by]; if (to) go(address(to, query), { replace: true }); };
  const say = async (mark) => {
    try {
      await ask("/duplicates/marks", {}, { method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ a, b, mark: mark === pair.mark ? null : mark }) });
    } catch (error) {
      note(error.message, { bad: true });
      return;
    }
    if (mark !== pair.mark && next) go(address(next, query), { replace: true });
    else go(mark === pair.mark ? address(pair, query) : `/review${String(query) && `?${query}`}`, { replace: true });
  };
  const choice = (mark, text, key) => h("button", { class: "button", type: "button", id: `mark-${mark}`, "aria-pressed": String(pair.mark === mark), title: pair.mark === mark ? "Take it back" : "", onclick: () => say(mark) }, text, h("kbd", {}, key));
  document.title = `${base(pair.a.name)} and ${base(pair.b.name)} · crosshape`;
  root.append(
    h("div", { class: "head" }, h("h1", {}, "The same?"), h("span", { class: "chip" }, pair.kind), h("span", { class: "soft" }, pair.evidence), h("span", { class: "soft numbers" }, at >= 0 ? `${at + 1} of ${count(shown.length)}` : "")),
    h("div", { class: "filters" }, choice("same", "The same", "s"), choice("different", "Different", "x"), choice("unsure", "Not sure", "u"), h("span", {}, " "), both.tools,
      h("a", { class: "button", href: `/review${String(query) && `?${query}`}` }, "All pairs")),
    h("div", { class: "pair" }, facts.map((one, i) => h("section", { "aria-label": one.name }, both.viewers[i].root,
      h("h2", {}, h("a", { href: `/shape/${one.id}` }, base(one.name))), h("p", { class: "crumbs" }, folder(one.name)), table(one, facts[1 - i])))));
  return { close: both.close, keys: { s: () => say("same"), x: () => say("different"), u: () => say("unsure"), ArrowRight: () => step(1), ArrowLeft: () => step(-1) } };
}
