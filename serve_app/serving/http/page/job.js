// A job: what the form asks for, and how it is sent. Pure apart from FormData.

/**
 * @typedef {object} Job
 * @property {string} prompt
 * @property {string[]} entities - empty to have the prompt parsed.
 * @property {File[]} contextual
 * @property {?File} generated
 * @property {?number} threshold - null for the service's own.
 * @property {?number} maskThreshold - likewise.
 * @property {Object<string, number>} thresholds - of single entities.
 * @property {boolean} verdict
 */

/**
 * The fields of the request that differ from its defaults, in the API's names.
 *
 * @param {Job} job
 * @returns {Array<[string, *]>}
 */
export function options(job) {
  const fields = [
    ["entities", job.entities.length ? job.entities : null],
    ["threshold", job.threshold],
    ["mask_threshold", job.maskThreshold],
    ["thresholds", Object.keys(job.thresholds).length ? job.thresholds : null],
    ["verdict", job.verdict || null],
  ];
  return fields.filter(([, value]) => value !== null);
}

/** The request as a form. */
export function formOf(job) {
  const form = new FormData();
  if (job.prompt) form.append("prompt", job.prompt);
  for (const [name, value] of options(job)) form.append(name, JSON.stringify(value));
  for (const file of job.contextual) form.append("contextual", file, file.name);
  if (job.generated) form.append("generated", job.generated, job.generated.name);
  return form;
}

/** Names a file of the job in an error's field, such as "contextual_images[1]"; null if it names none. */
export function pictureOf(field) {
  const found = /^contextual_images\[(\d+)\]/.exec(field ?? "");
  if (found) return { zone: "references", index: Number(found[1]) };
  return /^generated(_image)?\b/.test(field ?? "") ? { zone: "generated", index: 0 } : null;
}
