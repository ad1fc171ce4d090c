// Calls the service. Addresses are relative to the page, so that they work below any path prefix.

import { isReadable } from "./dom.js";
import { documents } from "./ndjson.js";

/** An error that the service answered, or a failure to reach it. */
export class ServiceError extends Error {
  /**
   * @param {{code: string, message: string, field: ?string}} error - in the service's shape.
   * @param {number} status - of HTTP; 0 if there was no answer.
   * @param {?number} retryAfterS - seconds after which to try again; null if the answer does not say.
   */
  constructor(error, status, retryAfterS = null) {
    super(error.message);
    this.code = error.code;
    this.field = error.field;
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

/** The address of a route of the service. */
export const address = (route) => new URL(route, document.baseURI).href;

function authorization(token) {
  if (!token) return {};
  if (/[^\x20-\xff]/.test(token)) {
    // The browser would send nothing at all.
    const message = "The token contains a character that no header can carry, such as an invisible one that was copied with it.";
    throw new ServiceError({ code: "unauthorized", message, field: null }, 401);
  }
  return { Authorization: `Bearer ${token}` };
}

async function call(route, options) {
  try {
    return await fetch(address(route), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError({ code: "unreachable", message: "The service cannot be reached.", field: null }, 0);
  }
}

async function errorOf(response) {
  const given = Number(response.headers.get("Retry-After"));
  const retryAfterS = response.headers.has("Retry-After") && given >= 0 ? given : null;
  const text = await response.text().catch(() => "");
  try {
    return new ServiceError(JSON.parse(text).error, response.status, retryAfterS);
  } catch {
    const message = `The service answered ${response.status}: ${text.slice(0, 200)}`;
    return new ServiceError({ code: "unknown", message, field: null }, response.status, retryAfterS);
  }
}

/** Finds the first file of a form that the browser can no longer read. With such a file it does not send the form. */
async function unreadable(form) {
  const files = [...form].filter(([, value]) => value instanceof File);
  for (const [place, [name, file]] of files.entries()) {
    if (await isReadable(file)) continue;
    const field = name === "contextual" ? `contextual_images[${place}]` : "generated_image";
    const message = `${field}: ${file.name} cannot be read: it is a folder, or has changed since it was chosen. Choose it again.`;
    return new ServiceError({ code: "unreadable", message, field }, 0);
  }
  return null;
}

/**
 * Sends the job.
 *
 * @yields {object} the events: `entities`, one `image` each, last `result`.
 * @throws {ServiceError} the service refuses, fails half-way or is lost; AbortError after `signal`.
 */
export async function* segment(form, token, signal) {
  const response = await call("v1/segment", {
    method: "POST",
    body: form,
    headers: { Accept: "application/x-ndjson", ...authorization(token) },
    signal,
  }).catch(async (error) => {
    throw error.code === "unreachable" ? ((await unreadable(form)) ?? error) : error;
  });
  if (!response.ok) throw await errorOf(response);
  try {
    for await (const event of documents(response.body)) {
      if (event.event === "error") throw new ServiceError(event.error, response.status);
      yield event;
      if (event.event === "result") return;
    }
  } catch (error) {
    if (error instanceof ServiceError || error.name === "AbortError") throw error;
  }
  throw new ServiceError({ code: "lost", message: "The connection was lost before the answer was complete.", field: null }, 0);
}

/**
 * Asks which parts of the service are not ready.
 *
 * @returns {Promise<string[]>} names of what is missing; empty once it is ready.
 * @throws {ServiceError} the answer does not say it.
 */
export async function missing(token) {
  const response = await call("readyz", { headers: authorization(token), cache: "no-store" });
  if (response.ok) return [];
  const copy = response.clone();
  const body = await response.json().catch(() => ({}));
  if (Array.isArray(body.missing)) return body.missing;
  throw await errorOf(copy);
}
