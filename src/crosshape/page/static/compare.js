// Two shapes side by side; turning one turns the other.

import { library, remembered } from "./api.js";
import { base, folder, h, thumb } from "./dom.js";
import { table } from "./shape.js";
import { START, Viewer } from "./viewer.js";

/** Two viewers with linked cameras; at true size, or each filling its stage. */
export function twins(one, other, views) {
  const aborted = new AbortController();
  const viewers = [one, other].map((facts) => new Viewer({ picture: thumb(facts, views), label: base(facts.name) }));
  viewers[1].turning = false;
  let linked = true;
  const link = (yes) => {
    linked = yes;
    viewers.forEach((viewer, i) => { viewer.linked = yes ? (camera, by_hand) => viewers[1 - i].follow(camera, by_hand) : null; });
    if (yes) viewers[1].follow(viewers[0].camera, false);
  };
  link(true);
  const true_size = (yes) => {
    const largest = Math.max(one.radius, other.radius);
    viewers.forEach((viewer, i) => { viewer.scale = yes ? [one, other][i].radius / largest : 1; viewer.draw(); });
  };
  viewers.forEach((viewer, i) => viewer.show(`/shapes/${[one, other][i].id}/mesh.glb`, [one, other][i].radius, aborted.signal)
    .then((extras) => { if (extras.reason) viewer.say(`The stored points are shown: ${extras.reason}.`); })
    .catch((error) => { if (error.name !== "AbortError") viewer.say(error.message); }));
  const toggle = (text, title, on, act) => {
    const button = h("button", { class: "button", type: "button", title, "aria-pressed": String(on), onclick: () => { on = !on; button.setAttribute("aria-pressed", on); act(on); } }, text);
    return button;
  };
  const tools = h("div", { class: "row" },
    toggle("Turn together", "One camera for both", true, link),
    toggle("True size", "Both at the scale of their files", false, true_size),
    h("button", { class: "button", type: "button", title: "The camera as at first", onclick: () => { viewers[0].move({ ...START }); viewers[1].move({ ...START }); } }, "Reset"));
  return { viewers, tools, close: () => { aborted.abort(); viewers.forEach((viewer) => viewer.close()); } };
}

export async function compare(root, { rest: [first, second], go }) {
  const [about, one, other] = await Promise.all([library(), remembered(`/shapes/${first}`), remembered(`/shapes/${second}`)]);
  document.title = `${base(one.name)} and ${base(other.name)} · crosshape`;
  const pair = twins(one, other, about.views);
  pair.tools.append(h("button", { class: "button", type: "button", title: "Left to the right", onclick: () => go(`/compare/${second}/${first}`, { replace: true }) }, "Swap"));
  const told = h("span", { class: "soft numbers" });
  remembered("/search", { id: first, top: 200 }).then((answer) => {
    const hit = answer.hits.find((one) => one.id === second);
    if (hit) told.textContent = `score ${hit.score.toFixed(3)}, number ${hit.rank} of what is most like ${base(one.name)}`;
  }, () => {});
  root.append(h("div", { class: "head" }, h("h1", {}, "Side by side"), told), pair.tools, h("div", { class: "pair" },
    [one, other].map((facts, i) => h("section", { "aria-label": facts.name }, pair.viewers[i].root,
      h("h2", {}, h("a", { href: `/shape/${facts.id}` }, base(facts.name))), h("p", { class: "crumbs" }, folder(facts.name)), table(facts, i ? one : other)))));
  pair.tools.style.marginBottom = "1rem";
  return { close: pair.close };
}
