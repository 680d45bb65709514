// The page of a run that is not over follows its stages; at its end the page is loaded once more. A browser has six
// connections to a site, and following holds one: of the windows that are seen one follows, and the others hear from it.
const AGAIN = 3_000;
const EVERY = 1_000;

export function followRun(root) {
  const place = root.querySelector('[data-follow]');
  if (!place) return;
  const channel = new BroadcastChannel(place.dataset.follow);
  const me = Math.random();
  let source, last;
  let heard = -AGAIN; // of another window that follows

  const show = (event) => {
    if (event?.type === 'end') { location.reload(); return; }
    const { status, stage } = JSON.parse(event?.data ?? '{}');
    if (status) place.textContent = stage ? `${status}: ${stage}` : status;
  };
  const pass = (event) => {
    last = { type: event.type, data: event.data };
    channel.postMessage({ me, last });
    show(last);
  };
  const release = () => { source?.close(); source = last = undefined; };
  const look = () => {
    if (document.hidden) release();
    else if (source) channel.postMessage({ me, last });
    else if (performance.now() - heard >= AGAIN) source = connected(place.dataset.follow, pass, release);
  };
  channel.addEventListener('message', ({ data: other }) => {
    heard = performance.now();
    if (other.me < me) release();
    show(other.last);
  });
  document.addEventListener('visibilitychange', look);
  setInterval(look, EVERY);
  look();
}

function connected(address, pass, release) {
  const source = new EventSource(address);
  source.addEventListener('stage', pass);
  source.addEventListener('end', (event) => { source.close(); pass(event); });
  source.addEventListener('error', () => {
    // Without an answer it connects again by itself; one that is no stream, as a proxy gives it, ends it for good.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => followAgain(release), AGAIN);
  });
  return source;
}

async function followAgain(release) {
  const answer = await fetch('/auth/me').catch(() => null);
  if (answer?.status === 401) location.reload(); // signed out meanwhile, in another tab perhaps
  else release();
}
