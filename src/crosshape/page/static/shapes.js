// The library: a grid of all shapes, or of those that pass the filters, or of those like one of them.

import { library, remembered } from "./api.js";
import { base, count, empty, h, thumb, tile } from "./dom.js";
import { note_of } from "./found.js";
import { Grid } from "./grid.js";

const FILTERS = ["q", "folder", "format", "tag", "min_faces", "max_faces", "min_size", "max_size"];
const SORTS = [["name", "by name"], ["-faces", "most faces"], ["faces", "fewest faces"], ["-size", "largest"], ["size", "smallest"], ["-changed", "newest"]];

export async function shapes(root, { query, go }) {
  const about = await library();
  const wanted = Object.fromEntries(FILTERS.map((key) => [key, query.get(key) || ""]));
  const sort = query.get("sort") || "name", like = query.get("like");
  const change = (values) => {
    const next = new URLSearchParams(query);
    for (const [key, value] of Object.entries(values)) if (value) next.set(key, value); else next.delete(key);
    go(`/${String(next) && `?${next}`}`, { keep: true });
  };
  document.title = `${about.name} · crosshape`;
  if (!about.shapes) {
    root.append(empty("No shapes yet", `${about.name} is empty. Fill it: crosshape add SHAPES ${about.name}`));
    return null;
  }

  let load, first = null;
  if (like) {
    const answer = remembered("/search", { id: like, top: 200, ...wanted });
    load = async (offset, limit) => {
      const found = await answer;
      return { total: found.hits.length, shapes: found.hits.slice(offset, offset + limit), note: found.note };
    };
    first = await answer;
  } else {
    load = (offset, limit) => remembered("/shapes", { offset, limit, sort, ...wanted });
  }
  const options = (shape) => (like ? { score: shape.score, line: `${shape.score.toFixed(3)} · ${shape.name.split("/")[0]}`, actions: [["compare", `/compare/${like}/${shape.id}`, "Beside the shape that was asked for"]] } : {});
  const grid = new Grid(load, (shape) => tile(shape, about.views, { now: false, ...options(shape) }));
  const told = h("span", { class: "soft numbers" });
  const head = like
    ? h("div", { class: "brought" }, h("a", { href: `/shape/${like}` }, thumb(first.query, about.views)), h("div", {}, h("h1", {}, `Like ${base(first.query.name)}`), told))
    : h("div", { class: "head" }, h("h1", {}, "Shapes"), told);
  root.append(head, filters(about, wanted, like ? null : sort, change), (like && note_of(first)) || "", grid.root);
  const total = await grid.begin();
  const narrowed = FILTERS.some((key) => wanted[key]);
  told.textContent = like ? (total === about.shapes - 1 ? "all other shapes, the most like it first" : `the ${count(total)} shapes most like it`) : narrowed ? `${count(total)} of ${count(about.shapes)}` : `${count(total)} in ${about.name}`;
  if (!total) {
    root.append(empty("Nothing passes these filters", "", h("button", { class: "button", type: "button", onclick: () => change(Object.fromEntries(FILTERS.map((key) => [key, ""]))) }, "Clear the filters")));
  }
  return { close: () => grid.close(), focus: () => grid.total && grid.focus(Math.max(0, Math.floor(grid.position() / grid.step)) * grid.columns) };
}

export function filters(about, wanted, sort, change) {
  const select = (label, key, choices) => {
    const box = h("select", { "aria-label": label, class: wanted[key] ? "set" : "", onchange: () => change({ [key]: box.value }) }, choices.map(([value, text]) => h("option", { value }, text)));
    box.value = wanted[key];
    return box;
  };
  const number = (key, label, hint) => h("input", { type: "number", min: 0, step: "any", value: wanted[key], placeholder: hint, "aria-label": label, class: wanted[key] ? "set" : "", onchange: (event) => change({ [key]: event.target.value }) });
  const box = h("div", { class: "filters", role: "group", "aria-label": "Filters" });
  if (about.folders.length) box.append(select("Folder", "folder", [["", "All folders"], ...about.folders.map(({ folder, count: many }) => [folder, `${folder} (${count(many)})`])]));
  const formats = Object.entries(about.formats);
  if (formats.length > 1) box.append(select("Format", "format", [["", "All formats"], ...formats.map(([one, many]) => [one, `${one} (${count(many)})`])]));
  // A tag in the address is shown also where no shape has it any more.
  const tags = about.tags.map(({ tag, count: many }) => [tag, `${tag} (${count(many)})`]);
  if (wanted.tag && !about.tags.some((one) => one.tag === wanted.tag)) tags.push([wanted.tag, wanted.tag]);
  if (tags.length) box.append(select("Tag", "tag", [["", "All tags"], ...tags]));
  box.append(h("fieldset", {}, "Faces", number("min_faces", "Least faces", "from"), number("max_faces", "Most faces", "to")));
  box.append(h("fieldset", {}, "Size", number("min_size", "Least size, longest side", "from"), number("max_size", "Largest size, longest side", "to")));
  const set = FILTERS.filter((key) => wanted[key]);
  if (set.length) box.append(h("button", { class: "button", type: "button", onclick: () => change(Object.fromEntries(set.map((key) => [key, ""]))) }, wanted.q ? `Clear “${wanted.q}”${set.length > 1 ? " and more" : ""}` : "Clear"));
  if (sort) {
    const order = h("select", { class: "sort", "aria-label": "Order", onchange: () => change({ sort: order.value === "name" ? "" : order.value }) }, SORTS.map(([value, text]) => h("option", { value }, text)));
    order.value = sort;
    box.append(order);
  }
  return box;
}
