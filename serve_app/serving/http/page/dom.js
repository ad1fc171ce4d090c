// Makes elements. Text of users and of the service only ever becomes text, never markup.

/**
 * Makes an element.
 *
 * @param {string} tag - its name.
 * @param {object} properties - `on*` are listeners, `data` is its dataset, `text` its text; `true` is an attribute
 *   without a value; null, undefined and false are left out; everything else is an attribute.
 * @param {...(Node|string)} children - its children.
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** Finds an element of the page by its id. */
export const byId = (id) => document.getElementById(id);

/** Saves a Blob as a file of the given name. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Whether a file can still be read: it may have changed since it was chosen, or be gone, or be a folder. */
export async function isReadable(file) {
  const reader = file.stream().getReader(); // a slice of a file that is gone is read as if it were empty
  try {
    await reader.read();
    return true;
  } catch {
    return false;
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** A score as it is shown: two digits. */
export const shown = (number) => number.toFixed(2);
