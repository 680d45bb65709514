// The door: one HTTP server on 127.0.0.1 that hands requests to lite and its answers back.
import { serve } from '@hono/node-server';
import { loadSchema } from './database.mjs';
import { admit, jwks } from './keys.mjs';
import { withRequest } from './request.mjs';
import { answerStorage } from './storage.mjs';

export function listen(app, settings) {
  const handle = (request, env) =>
    withRequest(request, (facts) => {
      const { pathname } = new URL(request.url);
      const context = { peerAddress: env?.incoming?.socket?.remoteAddress ?? null };
      const ask = (asked) => app.fetch(asked, context);
      if (pathname.startsWith('/_system')) return answerSystem(request, pathname, app, settings);
      if (pathname === '/auth/v1/.well-known/jwks.json') return Response.json(jwks(settings));
      const admitted = admit(request, settings);
      return pathname.startsWith('/storage/') ? answerStorage(admitted, ask, facts) : ask(admitted);
    });
  return new Promise((resolve, reject) => {
    const server = serve({ fetch: handle, port: settings.port, hostname: '127.0.0.1' }, () => resolve(server));
    server.once('error', reject);
  });
}

/** Stock: /_system/info and /_system/config show the database's URL, password included, to anyone. */
async function answerSystem(request, pathname, app, { secret_key: secret }) {
  if (pathname === '/_system/ping') return Response.json({ message: 'pong' });
  if (pathname === '/_system/reload' && request.method === 'POST' && request.headers.get('apikey') === secret) {
    await loadSchema(app.connection);
    return Response.json({ message: 'reloaded' });
  }
  return new Response(null, { status: 404 });
}
