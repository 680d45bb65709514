// Stock: a changed schema is seen after a restart only. PostgREST: `notify pgrst, 'reload schema'`.
import postgres from 'postgres';

const AGAIN_MS = 250;

/** Call `changed` now, at each `notify pgrst`, and whenever the database is back after an absence: a notice may have been
 *  missed meanwhile. (The driver's own `listen` tries once to come back, then is deaf.) Returns when it listens. */
export async function listenForChanges(url, changed) {
  const again = () => setTimeout(() => listenForChanges(url, changed).catch(again), AGAIN_MS).unref();
  const reload = () => changed().catch((error) => console.error(`the schema could not be read: ${error.message}`));
  let listening = false;
  const client = postgres(url, {
    max: 1,
    idle_timeout: 0,
    max_lifetime: null,
    connect_timeout: 5,
    fetch_types: false,
    onnotice: () => {},
    connection: { application_name: 'lite listens' },
    onnotify: reload,
    onclose: () => {
      if (!listening) return;
      listening = false;
      client.end({ timeout: 0 });
      again();
    },
  });
  try {
    await client`listen pgrst`;
    listening = true;
    await changed();
  } catch (error) {
    listening = false;
    await client.end({ timeout: 0 });
    throw error;
  }
}
