// The page of a run that is not over yet follows its stages; at its end the page is loaded once more. A browser has six
// connections to a site, and following holds one: a tab that nobody sees lets go of it until it is seen again.
const AGAIN = 3_000;

export function followRun(root) {
  const place = root.querySelector('[data-follow]');
  if (!place) return;
  let source;
  const follow = () => {
    source?.close();
    source = document.hidden ? undefined : connected(place, follow);
  };
  document.addEventListener('visibilitychange', follow);
  follow();
}

function connected(place, follow) {
  const source = new EventSource(place.dataset.follow);
  source.addEventListener('stage', (event) => {
    const { status, stage } = JSON.parse(event.data);
    place.textContent = stage ? `${status}: ${stage}` : status;
  });
  source.addEventListener('end', () => { source.close(); location.reload(); });
  source.addEventListener('error', () => {
    // Without an answer it connects again by itself; one that is no stream, as a proxy gives it, ends it for good.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => followAgain(follow), AGAIN);
  });
  return source;
}

async function followAgain(follow) {
  const answer = await fetch('/auth/me').catch(() => null);
  if (answer?.status === 401) location.reload(); // signed out meanwhile, in another tab perhaps
  else follow();
}
