// The driver `postgres` 3.4.9 fails in several ways when a database goes away while connections are reserved (lite reserves one for
// each request): the process dies outside of any promise (porsager/postgres#1208), a request waits for ever, or the rest of a
// transaction runs on somebody else's connection. Its source is patched while it is loaded.
import { registerHooks } from 'node:module';

const EDITS = {
  '/postgres/src/index.js': [
    // Who waits for a reservation gets one error, and then waits no longer: else a later connection is given to nobody.
    ['const query = { reserve: resolve, reject }', 'const query = { reserve: resolve, reject: error => { queries.remove(query); reject(error) } }'],
    // Who waits is served when a connection opens, out of this very queue.
    ['queries.length && connect(c, queries.shift())\n  }\n}', `if (!queries.length) return
    const next = queries.shift()
    if (next.reserve) queries.push(next)
    connect(c, next)
  }\n}`],
    // A reservation ends with its connection: what comes after is refused, and not given back.
    ['c.reserved.release = true\n', `c.reserved.release = true
    let lost = null
    c.onclose = error => {
      lost = error
      while (queue.length) queue.shift().reject(error)
    }\n`],
    ['sql.release = () => {\n', 'sql.release = () => {\n      if (lost) return\n      c.onclose = null\n'],
    ['function handler(q) {\n      c.queue === full\n        ? queue.push(q)', 'function handler(q) {\n      if (lost) return q.reject(lost)\n      c.queue === full\n        ? queue.push(q)'],
  ],
  '/postgres/src/connection.js': [
    // A connection that closes while it asks for types rejects that question; nobody listens.
    ['return fetchArrayTypes()', 'return fetchArrayTypes().catch(() => {})'],
    // Bytes that were not sent must not open the next connection.
    ["clearImmediate(nextWriteTimer)\n    socket.removeListener('data', data)", "clearImmediate(nextWriteTimer)\n    chunk = nextWriteTimer = null\n    socket.removeListener('data', data)"],
  ],
};

/** To be called before the driver is imported. */
export function patchDriver() {
  registerHooks({
    load(url, context, next) {
      const loaded = next(url, context);
      const edits = Object.entries(EDITS).find(([file]) => url.endsWith(file))?.[1];
      return edits ? { ...loaded, source: edits.reduce(replaced, String(loaded.source)) } : loaded;
    },
  });
}

function replaced(source, [was, is]) {
  if (source.split(was).length !== 2) throw new Error(`the driver has changed: ${JSON.stringify(was)} stands in it no longer`);
  return source.replace(was, () => is);
}
