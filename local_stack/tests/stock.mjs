// @supabase/lite as it comes, on a port of its own over the stack's database. The tests beside this ask it what our launcher
// fixes: a difference that is gone is a fix to remove. `node stock.mjs LITE_FOLDER SETTINGS.json PORT`.
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, file, port] = process.argv.slice(2);
process.env.EXPERIMENTAL_STORAGE = '1';
const load = (name) => import(pathToFileURL(path.join(folder, 'node_modules', name)));
const settings = JSON.parse(fs.readFileSync(file, 'utf8'));
const { App } = await load('@supabase/lite/dist/index.js');
const { createPostgresConnection } = await load('@supabase/lite/dist/db/postgres/PostgresConnection.js');
const { serve } = await load('@hono/node-server/dist/index.mjs');
const { FileStore } = await import(pathToFileURL(path.join(folder, 'filestore.mjs'))); // lite exports no adapter for files

const connection = createPostgresConnection({ url: settings.database_url, postgresOptions: { max: 2, onnotice: () => {} } });
const app = new App({
  connection,
  api: { port: Number(port), schemas: ['public'], max_rows: 1000 },
  auth: { enabled: true, jwt_secret: settings.jwt_secret, publishable_key: settings.publishable_key, secret_key: settings.secret_key },
  storage: { enabled: true, file_size_limit: '1MiB' },
  studio: { enabled: false },
  options: { server: { admin: false, disableStudio: true } },
});
app._storageAdapter = new FileStore(settings.storage_dir, { limitBytes: 2 ** 30 });
await app.init();
await connection.introspect();
serve({ fetch: app.fetch.bind(app), port: Number(port), hostname: '127.0.0.1' }, () => console.log('ready'));
