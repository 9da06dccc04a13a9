// Tags: proposed from those that people gave, to be accepted or refused.

import { ask, forget, library } from "./api.js";
import { count, empty, h, note, segments, tile } from "./dom.js";
import { arrows } from "./grid.js";

export async function say(id, tag, said) {
  await ask("/tags", {}, { method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify(said === "clear" ? { id, said } : { id, tag, said }) });
  forget();
}

export async function tagging(root, { query, go }) {
  const tag = query.get("tag") || "", about = await library(), state = await ask("/tags", { tag });
  document.title = `Tags in ${about.name} · crosshape`;
  let timer = 0;
  const close = () => clearTimeout(timer);
  const again = () => { timer = setTimeout(() => go(location.pathname + location.search, { replace: true, keep: true }), 1200); };
  if (!state.given.length && !state.proposed.length) {
    root.append(empty("Tags", "Open a few shapes and give each a tag, three or more of every kind. Tags for the others are then proposed here, with the precision to expect."));
    return null;
  }
  const tags = [...new Set([...state.learned, ...state.proposed].map((one) => one.tag))].sort();
  const many = { ready: state.ready, "to review": state.total - state.ready, "in the library": state.written };
  const change = (value) => go(`/tagging${value ? `?tag=${encodeURIComponent(value)}` : ""}`, { replace: true });
  root.append(
    h("div", { class: "head" }, h("h1", {}, "Tags"), h("span", { class: "soft numbers" }, [state.given.length && `${state.given.map((one) => `${one.tag} ${count(one.count)}`).join(" · ")} given`, `${count(state.total)} proposed`, state.written && `${count(state.written)} in the library to look at`].filter(Boolean).join(", "))),
    h("div", { class: "filters" },
      segments("Tag", [["", "all"], ...tags.map((one) => [one, one])], tag, change),
      h("a", { class: "button", href: "/tags/labels.csv", download: "labels.csv" }, "Table")));
  if (state.working) {
    root.append(h("p", { class: "row soft" }, h("span", { class: "spin" }), "Learning from the tags …"));
    again();
  } else if (state.why_not) root.append(h("p", { class: "verdict" }, state.why_not));
  else if (!state.proposals.length) root.append(empty("Nothing is proposed", "Give some more shapes a tag."));
  if (state.unsure && state.total) root.append(h("p", { class: "verdict" }, state.unsure));
  for (const [kind, words] of [["ready", "Ready"], ["to review", "To review"], ["in the library", "In the library"]]) {
    const some = state.proposals.filter((one) => one.state === kind);
    if (!some.length) continue;
    const list = arrows(h("div", { class: "flow" }));
    for (const one of some.slice(0, 120)) {
      const card = h("div", { class: "proposal" });
      const act = async (said) => {
        try {
          await say(one.shape.id, one.tag, said);
        } catch (error) {
          note(error.message, { bad: true });
          return;
        }
        const next = card.nextElementSibling || card.previousElementSibling;
        card.remove();
        next?.querySelector("a.tile")?.focus({ preventScroll: true });
      };
      card.append(
        tile(one.shape, about.views, { line: `${one.tag}${one.precision ? ` · ${Math.round(100 * one.precision)} %` : ""}` }),
        h("div", { class: "row" },
          h("button", { class: "button", type: "button", "aria-label": `${one.tag}: yes`, onclick: () => act("give") }, "✓ ", one.tag),
          h("button", { class: "button", type: "button", "aria-label": `${one.tag}: no`, onclick: () => act("refuse") }, "✗")));
      card.addEventListener("keydown", (event) => { if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return; if (event.key === "a") act("give"); else if (event.key === "r") act("refuse"); });
      list.append(card);
    }
    root.append(h("section", { "aria-label": words }, h("div", { class: "row" }, h("h2", {}, words), h("span", { class: "soft" }, `${count(many[kind])}${many[kind] > 120 ? ", the first 120" : ""} · a accepts, r refuses`)), list));
  }
  return { close, focus: () => root.querySelector("a.tile")?.focus() };
}

/** The tag of a shape, to be given or changed. */
export function tag_field(facts) {
  const box = h("div", { class: "tagged" }), known = h("datalist", { id: "tags" });
  // What crosshape tag --write put into the library, until someone has said yes or no.
  const written = facts.written.map((tag) => {
    const act = async (said) => {
      try {
        await say(facts.id, tag, said);
      } catch (error) {
        note(error.message, { bad: true });
        return;
      }
      line.remove();
      if (said === "give") { field.value = tag; for (const other of box.querySelectorAll(".written")) other.remove(); }
      field.focus();
    };
    const line = h("div", { class: "row written" }, h("a", { class: "chip", href: `/?tag=${encodeURIComponent(tag)}`, title: "All shapes with this tag" }, tag), h("span", { class: "soft" }, "in the library"),
      h("button", { class: "button", type: "button", "aria-label": `${tag}: yes`, onclick: () => act("give") }, "✓"),
      h("button", { class: "button", type: "button", "aria-label": `${tag}: no`, onclick: () => act("refuse") }, "✗"));
    return line;
  });
  const field = h("input", { type: "text", value: facts.tag || "", placeholder: "Give it a tag", "aria-label": "Tag", maxLength: 80, autocomplete: "off" });
  field.setAttribute("list", "tags");
  field.addEventListener("focus", async () => {
    const about = await library().catch(() => ({ tags: [] }));
    known.replaceChildren(...about.tags.map((one) => h("option", { value: one.tag })));
  }, { once: true });
  field.addEventListener("change", async () => {
    const tag = field.value.trim();
    try {
      await say(facts.id, tag, tag ? "give" : "clear");
      note(tag ? `Tagged “${tag}”.` : "The tag is taken back.", { seconds: 3 });
    } catch (error) {
      note(error.message, { bad: true });
    }
  });
  box.append(...written, field, known);
  return box;
}
