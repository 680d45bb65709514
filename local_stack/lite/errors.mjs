// Stock lite answers most SQLSTATEs with 500 {"code":"SUP"}. PostgREST gives the code itself and a status that says
// whether to try again. lite lets SQL choose both (`raise sqlstate 'PGRST'`): that door is used here.

const CONNECTION_LOST = /^(ECONN|EPIPE|ETIMEDOUT|ENOTFOUND|CONNECTION_|CONNECT_)/;
const SQLSTATE = /^[0-9A-Z]{5}$/;
// lite has these right already.
const FAITHFUL = /^(PT|PGRST|42|22|23502|23503|23505|25006)/;

// docs.postgrest.org, "Errors": the class of the SQLSTATE decides. 21000 is a 500 on the hosted platform.
const STATUS = [
  [/^(08|53|57P)/, 503],
  [/^(0L|0P|28)/, 403],
  [/^(23|P0001)/, 400],
  [/^09/, 500],
];

export function statusOf(code) {
  return STATUS.find(([pattern]) => pattern.test(code))?.[1] ?? 500;
}

const answer = (code, status, { message, detail, hint }) => ({
  code: 'PGRST',
  message: JSON.stringify({ code, message, details: detail ?? null, hint: hint ?? null }),
  detail: JSON.stringify({ status, headers: {} }),
});

/** Make `connection` describe database errors as PostgREST does. */
export function speakPostgrestErrors(connection) {
  const stock = connection.normalizeDbError.bind(connection);
  connection.normalizeDbError = (error) => {
    const known = stock(error);
    const code = String(known?.code ?? '');
    if (CONNECTION_LOST.test(code)) {
      return answer('PGRST001', 503, { message: 'Database client error. Retrying the connection.', detail: code });
    }
    if (!SQLSTATE.test(code) || FAITHFUL.test(code)) return known;
    return answer(code, statusOf(code), known);
  };
}
