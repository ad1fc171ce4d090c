// Writes a ZIP archive without compression: pictures do not shrink. Pure. Source: PKWARE's APPNOTE.TXT, 4.3.

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});
const UTF_8 = 0x0800; // flag: names are UTF-8
const MIDNIGHT_1980 = 0x00210000; // the earliest time that a ZIP archive can hold

/** CRC-32 of some bytes. */
export function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = TABLE[(value ^ byte) & 0xff] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

function numbers(...pairs) {
  const bytes = new Uint8Array(pairs.reduce((sum, [, size]) => sum + size, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [value, size] of pairs) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return bytes;
}

/**
 * @param {Array<{name: string, bytes: Uint8Array}>} files - each name once; together under 4 GiB.
 * @returns {Blob}
 */
export function zip(files) {
  const [parts, directory] = [[], []];
  let offset = 0;
  for (const { name, bytes } of files) {
    const text = new TextEncoder().encode(name);
    const common = [
      [20, 2], [UTF_8, 2], [0, 2], [MIDNIGHT_1980, 4], [crc32(bytes), 4], [bytes.length, 4], [bytes.length, 4],
      [text.length, 2], [0, 2],
    ];
    const head = numbers([0x04034b50, 4], ...common);
    directory.push(numbers([0x02014b50, 4], [20, 2], ...common, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]), text);
    parts.push(head, text, bytes);
    offset += head.length + text.length + bytes.length;
  }
  const size = directory.reduce((sum, each) => sum + each.length, 0);
  const end = numbers(
    [0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2], [size, 4], [offset, 4], [0, 2],
  );
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}
