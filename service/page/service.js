// The service behind this page, and the key that it may ask for.

// The tab's own storage: it ends with the tab, and no other page sees it.
const NAME = "splinellm-key";
let heldHere = null; // where a tab has no storage

export const keeper = {
  get() { try { return sessionStorage.getItem(NAME); } catch { return heldHere; } },
  set(key) { heldHere = key; try { sessionStorage.setItem(NAME, key); } catch { /* kept here alone */ } },
  forget() { heldHere = null; try { sessionStorage.removeItem(NAME); } catch { /* likewise */ } },
};

export const asksForKey = "asksForKey" in document.documentElement.dataset;

const AGAIN = [429, 502, 503, 504];

/** The service said no, or nothing. */
export class Refusal extends Error {
  constructor(message, { code = null, status = 0 } = {}) {
    super(message);
    this.code = code;
    this.isOfKey = status === 401;
    this.mayPass = status === 0 || AGAIN.includes(status);
  }
}

/** Address of a route, below whatever path this page is. */
export const address = (path) => new URL(path, document.baseURI).href;

export async function call(path, body, signal) {
  const headers = {};
  const key = keeper.get();
  // Bytes beyond Latin-1 cannot be in a header as they are; the service reads UTF-8.
  if (key) headers.authorization = "Bearer " + String.fromCharCode(...new TextEncoder().encode(key));
  if (body) headers["content-type"] = "application/json";
  let answer, text;
  try {
    answer = await fetch(address("v1/" + path), {
      method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal,
      cache: "no-store", credentials: "omit",
    });
    text = await answer.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The service cannot be reached.");
  }
  let content;
  try { content = JSON.parse(text); } catch { content = {}; }
  const { status } = answer;
  if (!answer.ok || typeof content !== "object" || content === null) {
    const { message = `The service answered ${status}.`, code } = content?.error ?? {};
    throw new Refusal(message, { code, status });
  }
  return { content, headers: answer.headers };
}

export const catalog = { models: [], classifiers: [], unasked: [], isLoaded: false };

/** Learn what is loaded; once, since that does not change while a service runs. */
export async function loadCatalog() {
  if (catalog.isLoaded) return;
  const [models, classifiers] = await Promise.all([call("models"), call("classifiers")]);
  catalog.models = models.content.data;
  // What the page asks them are texts, too: each message of a conversation, for one.
  const all = classifiers.content.data;
  catalog.classifiers = all.filter(({ provenance }) => provenance.count === "all");
  catalog.unasked = all.filter((one) => !catalog.classifiers.includes(one));
  catalog.isLoaded = true;
}
