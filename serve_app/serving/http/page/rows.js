// Which rows of a batch are shown. Pure.

/** A row's outcome in words. */
export const STATUS = {
  arrived: "arrived",
  not_arrived: "did not arrive",
  unknown: "could not be told",
  none: "no verdict",
  failed: "failed",
};

/**
 * @param {object[]} rows - as `rows.json` lists them.
 * @param {object} wanted - `status` and `group`, each null for any; `score` names one of a row's scores, `least` and
 *   `most` are its bounds, each null for none. A row without the score is outside every bound.
 * @returns {object[]} the rows that are wanted, in their order.
 */
export function wantedRows(rows, { status, group, score, least, most }) {
  return rows.filter((row) => {
    const value = row.scores[score] ?? null;
    if (status !== null && row.status !== status) return false;
    if (group !== null && row.group !== group) return false;
    if (least !== null && (value === null || value < least)) return false;
    return most === null || (value !== null && value <= most);
  });
}
