// Asking the server. Every error is a problem with a title and a detail that a person can read.

export class Problem extends Error {
  constructor(body) {
    super(body.detail || body.title || "It did not work.");
    this.kind = (body.type || "").split(":").pop();
    this.title = body.title || "Problem";
    this.status = body.status || 0;
  }
}

let version = null;

export async function ask(path, parameters = {}, options = {}) {
  const address = new URL(path, location.origin);
  for (const [key, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null && value !== "") address.searchParams.set(key, value);
  }
  let response;
  try {
    response = await fetch(address, { headers: { Accept: "application/json" }, ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ type: "offline", title: "The server does not answer", detail: "It may have been stopped. Start it again: crosshape serve LIBRARY" });
  }
  if (!response.ok) throw await problem(response);
  if (response.status === 204) return null;
  const body = await response.json();
  if (body.version !== undefined) {
    if (version !== null && body.version !== version) document.dispatchEvent(new CustomEvent("changed"));
    version = body.version;
  }
  return body;
}

export async function problem(response) {
  try {
    return new Problem(await response.json());
  } catch {
    return new Problem({ title: `Answer ${response.status}`, status: response.status, detail: "The server could not do this." });
  }
}

let known = null;
/** What the library is; asked once. */
export function library(again = false) {
  if (!known || again) {
    known = ask("/library");
    known.catch(() => { known = null; });
  }
  return known;
}

const lately = new Map();
/** As ask, for what does not change while the library does not: kept, so that going back is instant. */
export function remembered(path, parameters = {}) {
  const key = path + JSON.stringify(parameters);
  if (!lately.has(key)) {
    const answer = ask(path, parameters);
    lately.set(key, answer);
    answer.catch(() => lately.delete(key));
    if (lately.size > 600) lately.delete(lately.keys().next().value);
  }
  return lately.get(key);
}

export function forget() {
  lately.clear();
  known = null;
}
