// Which objects are shown at the sliders' thresholds. Pure.

/**
 * @typedef {object} Thresholds - where the sliders stand.
 * @property {number} all - for labels without one of their own.
 * @property {Map<string, number>} labels - of single labels.
 */

/** The threshold that the service applied to a label. */
export const askedFor = (meta, label) => (Object.hasOwn(meta.thresholds, label) ? meta.thresholds[label] : meta.threshold);

/** The threshold that the sliders set for a label. */
export const setFor = (thresholds, label) => thresholds.labels.get(label) ?? thresholds.all;

/**
 * Whether an object is shown. At or below the request's threshold every object of the answer is: its score is above it,
 * but may be rounded to it.
 */
export function passes(object, thresholds, meta) {
  const limit = setFor(thresholds, object.label);
  return limit <= askedFor(meta, object.label) || object.score > limit;
}

/** The labels whose sliders do not stand where the request's thresholds are. */
export const moved = (entities, thresholds, meta) =>
  entities.filter((label) => Math.abs(setFor(thresholds, label) - askedFor(meta, label)) > 1e-9);

/** The labels whose sliders stand below the request's thresholds: their further objects are not in the answer. */
export const below = (entities, thresholds, meta) =>
  entities.filter((label) => setFor(thresholds, label) < askedFor(meta, label) - 1e-9);
