// Stock: an access token of Auth holds nothing of the account's metadata, and no hook is called (lite knows the setting
// `hook.custom_access_token`, and never uses it). Hosted: every token carries `app_metadata` and `user_metadata`, policies
// decide by them, and a project may choose a function that changes the claims before the token is signed.
import { sql } from 'kysely';
import { issue } from './keys.mjs';

// Every session comes from one of these: the first signs in by password, sign-up, link or code; the second refreshes.
const ISSUERS = { createSessionForUser: 'password', createRefreshResponse: 'token_refresh' };
const FUNCTION = /^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$/;

/** A middleware of lite that makes Auth, of which each request has its own, issue tokens with the claims. */
export function carryMetadata(settings, connection) {
  const { access_token_hook: hook } = settings;
  if (hook && !FUNCTION.test(hook)) throw new Error(`access_token_hook is no schema.function: ${hook}`);
  const change = hook ? (event) => callHook(connection, hook, event) : (event) => event;
  return (context, next) => {
    const auth = context.get('authService');
    for (const [name, method] of Object.entries(ISSUERS)) {
      const stock = auth[name].bind(auth);
      auth[name] = async (...given) => withClaims(await stock(...given), settings, method, change);
    }
    return next();
  };
}

/** `session.user` has just been read from auth.users: what the operator has changed since is in the next token. */
async function withClaims(session, settings, authentication_method, change) {
  const [, body] = session.access_token.split('.');
  const { id: user_id, app_metadata, user_metadata } = session.user;
  const stock = { ...JSON.parse(Buffer.from(body, 'base64url')), app_metadata, user_metadata };
  const { claims } = await change({ user_id, authentication_method, claims: stock });
  session.access_token = issue(claims, settings); // in place: lite hangs hidden properties on the session
  return session;
}

/** As on the hosted platform: a failing hook, or one that answers with an error or without claims, fails the sign-in. */
async function callHook(connection, hook, event) {
  const { rows } = await sql`select ${sql.raw(hook)}(${JSON.stringify(event)}::text::jsonb)::text as answer`.execute(connection.kysely);
  const answer = JSON.parse(rows[0].answer ?? '{}');
  if (answer.error) throw new Error(`the access token hook refused: ${answer.error.message}`);
  if (!answer.claims?.role || !answer.claims?.sub) throw new Error('the access token hook left out claims');
  return answer;
}
