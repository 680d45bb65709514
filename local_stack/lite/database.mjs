// The connection to PostgreSQL, with a fix for each thing that stock lite does differently from PostgREST. One function, one difference.
import { createPostgresConnection } from '@supabase/lite/postgres';
import { sql } from 'kysely';
import { speakPostgrestErrors } from './errors.mjs';
import { types } from './values.mjs';

export function connect({ database_url: url, pool }) {
  const connection = createPostgresConnection({
    url,
    postgresOptions: {
      max: pool,
      idle_timeout: 0,
      connect_timeout: 5,
      backoff: () => 0.2, // a restarted database is found again at once
      onnotice: () => {},
      // PostgREST's JSON is made in the database, where DateStyle has no say; here a timestamp arrives as text.
      connection: { application_name: 'lite', datestyle: 'ISO' },
      types,
    },
  });
  keepGrants(connection);
  honourMissing(connection);
  honourTimeouts(connection);
  speakPostgrestErrors(connection);
  return connection;
}

/** Stock: the first request after each start grants ALL on every table to the API roles, undoing a migration's revoke. */
function keepGrants(connection) {
  connection.rlsState = 'active';
}

/** Stock: with `columns=`, an absent key is always the default, but is echoed as null. PostgREST: NULL, or the default
 *  when `Prefer: missing=default` says so. */
function honourMissing(connection) {
  const stock = connection.onPostgrestAST.bind(connection);
  connection.onPostgrestAST = (ast, vars) => {
    const columns = ast.$meta?.columns;
    if (['insert', 'upsert'].includes(ast.type) && columns?.length && Array.isArray(ast.values)) {
      const absent = ast.$meta.missing === 'default' ? sql`default` : null;
      const complete = (row) => Object.fromEntries(columns.map((name) => [name, name in row ? row[name] : absent]));
      ast.values = ast.values.map(complete);
      delete ast.$meta.columns;
    }
    return stock(ast, vars);
  };
}

/** Stock: `alter role … set statement_timeout` counts for the login role only, on a function never. PostgREST applies
 *  those of the role it becomes and of the function it calls. */
function honourTimeouts(connection) {
  const roles = new Map();
  const functions = new Map();
  const apply = (db, timeout) => timeout && sql`select set_config('statement_timeout', ${timeout}, true)`.execute(db);

  const becomeRole = connection.applyJwtSessionContext.bind(connection);
  connection.applyJwtSessionContext = async (db, vars, custom) => {
    await apply(db, roles.get(vars.auth?.role || 'anon')); // before the change of role: it may not read a thing
    return becomeRole(db, vars, custom);
  };
  const enterFunction = connection.applyRpcRequestGucs.bind(connection);
  connection.applyRpcRequestGucs = async (db, rpc) => {
    await enterFunction(db, rpc);
    await apply(db, functions.get(String(rpc.path).split('/').pop()));
  };
  connection.readTimeouts = async () => {
    const { rows } = await sql`
      select 'role' as kind, rolname as name, rolconfig as config from pg_roles where rolconfig is not null
      union all
      select 'function', proname, proconfig from pg_proc
      where proconfig is not null and pronamespace = 'public'::regnamespace`.execute(connection.kysely);
    roles.clear();
    functions.clear();
    for (const { kind, name, config } of rows) {
      const found = config.find((entry) => entry.startsWith('statement_timeout='));
      if (found) (kind === 'role' ? roles : functions).set(name, found.split('=')[1]);
    }
  };
}

/** Read the schema (stock caches a failed read as an empty schema: every table then answers 404). */
export async function loadSchema(connection) {
  await connection.ping();
  const schema = await connection.introspect();
  if (schema.tables.length === 0) throw new Error('the schema could not be read');
  await connection.readTimeouts();
}

/** As on the hosted platform: the API roles may use the schemas and tables of Storage; row-level security decides.
 *  Granted once, with the schema: what the owner revokes later stays revoked. */
export async function grantStorage(connection) {
  const { rows } = await sql`select has_schema_privilege('service_role', 'storage', 'usage') as granted`.execute(connection.kysely);
  if (rows[0].granted) return;
  await sql.raw(`
    grant usage on schema auth, storage to anon, authenticated, service_role;
    grant all on storage.objects, storage.buckets to anon, authenticated, service_role;
    grant execute on all functions in schema storage, auth to anon, authenticated, service_role`).execute(connection.kysely);
}
