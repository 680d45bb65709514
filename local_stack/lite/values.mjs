// How values travel between PostgreSQL and JSON. Each export fixes one difference between stock lite and PostgREST.

const reads = (oid, parse) => ({ to: oid, from: [oid], serialize: (value) => value, parse });

/** Stock: `2025-01-28 02:44:47+00`. PostgREST: `2025-01-28T02:44:47+00:00`. Rows, sessions and buckets alike. */
const isoTimestamps = () => {
  const iso = (text) => text.replace(' ', 'T').replace(/([+-]\d\d)$/, '$1:00');
  return { timestamp: reads(1114, iso), timestamptz: reads(1184, iso) };
};

/** Stock: bigint past 2^53 comes back rounded. PostgREST: every digit. */
const exactIntegers = () => {
  const parse = (text) => (Number.isSafeInteger(Number(text)) ? Number(text) : JSON.rawJSON(text));
  return { bigint: { to: 20, from: [20], serialize: String, parse } };
};

/** Stock: a string as soon as the text is not JavaScript's own. PostgREST: a number, with every digit; NaN as text. */
const plainNumerics = () => {
  const digits = (text) => text.replace(/[-.]/g, '').length;
  const parse = (text) => {
    if (!Number.isFinite(Number(text))) return text;
    return digits(text) <= 15 ? Number(text) : JSON.rawJSON(text);
  };
  return { numeric: { to: 1700, from: [1700], serialize: String, parse } };
};

/** Stock: NaN and infinities of double precision become null. PostgREST: the texts "NaN", "Infinity", "-Infinity". */
const honestFloats = () => {
  const parse = (text) => (Number.isFinite(Number(text)) ? Number(text) : text);
  return { float4: { to: 700, from: [700], serialize: String, parse }, float8: { to: 701, from: [701], serialize: String, parse } };
};

const parseExactly = (text) =>
  /\d{16}/.test(text) // only then can a number be past 2^53; the reviver is slow
    ? JSON.parse(text, (_, value, { source }) =>
        typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(source) ? JSON.rawJSON(source) : value)
    : JSON.parse(text);

/** Stock: lite turns JSON arguments into text and the driver does it again, so a function gets a jsonb *string*. */
const jsonOnce = () => {
  const json = (oid) => ({
    to: oid,
    from: [oid],
    serialize: (value) => (typeof value === 'string' ? value : JSON.stringify(value)),
    parse: parseExactly,
  });
  return { json: json(114), jsonb: json(3802) };
};

export const types = { ...isoTimestamps(), ...exactIntegers(), ...plainNumerics(), ...honestFloats(), ...jsonOnce() };
