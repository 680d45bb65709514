// `node launcher.mjs SETTINGS.json`: Supabase's REST, Auth and Storage on one port, over one PostgreSQL.
// @supabase/lite as it comes differs from the hosted platform; the modules beside this one fix that, one function a difference.
import { carryMetadata } from './claims.mjs';
import { patchDriver } from './driver.mjs';
import { readSettings } from './settings.mjs';

process.umask(0o077);
process.env.EXPERIMENTAL_STORAGE = '1'; // read while @supabase/lite is imported
process.env.LITE_TELEMETRY = '0';
const settings = readSettings(process.argv[2]);
patchDriver();
const { App } = await import('@supabase/lite');
const { connect, grantStorage, loadSchema } = await import('./database.mjs');
const { listenForChanges } = await import('./notify.mjs');
const { FileStore } = await import('./filestore.mjs');
const { listen } = await import('./server.mjs');

function build(connection) {
  const app = new App({
    connection,
    api: { port: settings.port, schemas: settings.schemas, max_rows: settings.max_rows },
    auth: {
      enabled: true,
      enable_signup: true,
      jwt_secret: settings.jwt_secret,
      jwt_expiry: settings.jwt_expiry,
      publishable_key: settings.publishable_key,
      secret_key: settings.secret_key,
      email: { enable_confirmations: false },
    },
    storage: { enabled: true, file_size_limit: `${settings.file_size_limit_mib}MiB` },
    studio: { enabled: false },
    options: { server: { admin: false, disableStudio: true, middlewares: [carryMetadata(settings, connection)] } },
  });
  app._storageAdapter = new FileStore(settings.storage_dir, { limitBytes: settings.file_size_limit_mib * 2 ** 20 });
  return app;
}

function stopOnSignal(server, connection) {
  const stop = () => {
    setTimeout(() => process.exit(0), 3000).unref(); // a client that never closes must not hold us
    server.close(() => connection.close().finally(() => process.exit(0)));
    server.closeIdleConnections();
  };
  for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, stop);
}

async function start() {
  const connection = connect(settings);
  const app = build(connection);
  await app.init();
  await app.ensureSystemSchema(); // the schemas auth and storage; idempotent
  await grantStorage(connection);
  await listenForChanges(settings.database_url, () => loadSchema(connection));
  stopOnSignal(await listen(app, settings), connection);
  console.log(`ready on port ${settings.port} after ${Math.round(process.uptime() * 1000)} ms`);
}

await start().catch((error) => {
  console.error(`could not start: ${error.message}`);
  process.exit(1);
});
