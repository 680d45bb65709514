// Stock: an access token of Auth holds nothing of the account's metadata. Hosted: every one carries `app_metadata` and
// `user_metadata`, and policies decide by them. (lite knows the setting `hook.custom_access_token`, and never calls it.)
import { createHmac } from 'node:crypto';

// Every session comes from one of these: the first signs in by password, sign-up, link or code; the second refreshes.
const ISSUERS = ['createSessionForUser', 'createRefreshResponse'];

/** A middleware of lite that makes Auth, of which each request has its own, issue tokens with the claims. */
export function carryMetadata(secret) {
  return (context, next) => {
    const auth = context.get('authService');
    for (const name of ISSUERS) {
      const stock = auth[name].bind(auth);
      auth[name] = async (...given) => withMetadata(await stock(...given), secret);
    }
    return next();
  };
}

/** `session.user` has just been read from auth.users: what the operator has changed since is in the next token. */
function withMetadata(session, secret) {
  const [head, body] = session.access_token.split('.');
  const { app_metadata, user_metadata } = session.user;
  const claims = { ...JSON.parse(Buffer.from(body, 'base64url')), app_metadata, user_metadata };
  const unsigned = `${head}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}`;
  // In place: lite hangs hidden properties on the session. The head says HS256, which stays true.
  session.access_token = `${unsigned}.${createHmac('sha256', secret).update(unsigned).digest('base64url')}`;
  return session;
}
