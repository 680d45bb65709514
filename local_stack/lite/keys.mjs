// Stock: one secret key, one JWT secret, HS256 alone. Hosted: several secret keys at once, the older `anon` and `service_role`
// JWTs as keys, and signing keys (ES256) of which one signs and the others are still trusted, published as a JWKS: that
// is what a rotation of keys goes through. Here such a request is turned into one that lite knows.
import { createHmac, createPrivateKey, createPublicKey, sign, timingSafeEqual, verify } from 'node:crypto';

const ES256 = { dsaEncoding: 'ieee-p1363' };
const decode = (part) => JSON.parse(Buffer.from(part, 'base64url'));
const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const hmac = (text, secret) => createHmac('sha256', secret).update(text).digest();

/** The request with keys and a token that lite knows; what is not valid stays as it is, and lite refuses it. */
export function admit(request, settings) {
  const key = request.headers.get('apikey');
  const token = request.headers.get('authorization')?.replace(/^Bearer /, '');
  const knownKey = key && keyOf(key, settings);
  const knownToken = token && token !== key ? hs256(token, settings) : undefined;
  if (!knownKey && !knownToken) return request;
  const headers = new Headers(request.headers);
  if (knownKey) headers.set('apikey', knownKey);
  if (knownKey && token === key) headers.delete('authorization'); // the key decides
  if (knownToken) headers.set('authorization', `Bearer ${knownToken}`);
  const hasBody = !['GET', 'HEAD'].includes(request.method);
  return new Request(request.url, { method: request.method, headers, ...(hasBody ? { body: request.body, duplex: 'half' } : {}) });
}

function keyOf(key, { more_secret_keys: more, secret_key: secret, publishable_key: publishable, jwt_secret: jwtSecret }) {
  if (more.includes(key)) return secret;
  if (key.split('.').length !== 3) return undefined;
  const [head, body, signature] = key.split('.');
  const given = Buffer.from(signature, 'base64url');
  const wanted = hmac(`${head}.${body}`, jwtSecret);
  if (given.length !== wanted.length || !timingSafeEqual(given, wanted)) return undefined;
  return { service_role: secret, anon: publishable }[decode(body).role];
}

/** A token of one of the signing keys as one that lite verifies; its claims, and so its end, are the same. */
function hs256(token, { signing_keys: keys, jwt_secret: secret }) {
  const parts = token.split('.');
  if (parts.length !== 3 || keys.length === 0) return undefined;
  const [head, body, signature] = parts;
  const { alg, kid } = decode(head);
  const jwk = keys.find((known) => known.kid === kid);
  if (alg !== 'ES256' || !jwk) return undefined;
  const key = { key: createPublicKey({ key: jwk, format: 'jwk' }), ...ES256 };
  if (!verify('sha256', `${head}.${body}`, key, Buffer.from(signature, 'base64url'))) return undefined;
  return signed({ alg: 'HS256', typ: 'JWT' }, decode(body), (text) => hmac(text, secret));
}

/** A token with these claims, by the first of the signing keys, or by the JWT secret where there are none. */
export function issue(claims, { signing_keys: [current], jwt_secret: secret }) {
  if (!current) return signed({ alg: 'HS256', typ: 'JWT' }, claims, (text) => hmac(text, secret));
  const key = { key: createPrivateKey({ key: current, format: 'jwk' }), ...ES256 };
  return signed({ alg: 'ES256', typ: 'JWT', kid: current.kid }, claims, (text) => sign('sha256', text, key));
}

function signed(head, claims, by) {
  const text = `${encode(head)}.${encode(claims)}`;
  return `${text}.${by(Buffer.from(text)).toString('base64url')}`;
}

/** What anyone may know of the signing keys. */
export function jwks({ signing_keys: keys }) {
  return { keys: keys.map(({ d, ...open }) => ({ ...open, alg: 'ES256', use: 'sig', key_ops: ['verify'] })) };
}
