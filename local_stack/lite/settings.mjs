// The settings of the launcher: one JSON file (mode 0600), so that no secret stands on a command line or in an environment.
import fs from 'node:fs';

const REQUIRED = ['database_url', 'port', 'jwt_secret', 'publishable_key', 'secret_key', 'storage_dir'];
const DEFAULTS = { max_rows: 1000, file_size_limit_mib: 50, pool: 10, schemas: ['public'], jwt_expiry: 3600, access_token_hook: '', more_secret_keys: [], signing_keys: [] };

export function readSettings(file) {
  const settings = { ...DEFAULTS, ...JSON.parse(fs.readFileSync(file, 'utf8')) };
  const missing = REQUIRED.filter((name) => settings[name] === undefined);
  if (missing.length > 0) throw new Error(`${file} lacks ${missing.join(', ')}`);
  return settings;
}
