// The bearer token: typed in, kept until the tab is closed.

const KEY = "genseg.token";

/** The token, or an empty text. */
export function token() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return ""; // the browser keeps nothing for this page
  }
}

/** Keeps a token; an empty one forgets it. */
export function keepToken(text) {
  try {
    if (text) sessionStorage.setItem(KEY, text);
    else sessionStorage.removeItem(KEY);
  } catch {
    // the token is not kept, so the service will ask for it again
  }
}
