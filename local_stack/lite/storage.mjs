// Storage's HTTP edge, bent to the shape of the hosted platform. One function, one difference.
const OBJECT = '/storage/v1/object';

const sameHeaders = (response) => {
  const headers = new Headers(response.headers);
  headers.delete('content-length');
  headers.set('content-type', 'application/json');
  return headers;
};
const json = (response, body, status = response.status) => new Response(JSON.stringify(body), { status, headers: sameHeaders(response) });
const relative = (url) => url.replace('/storage/v1', '');
const encodePath = (key) => encodeURI(key).replace(/[?#]/g, encodeURIComponent); // lite decodes no %3D

/** Answer a request below /storage/v1; `ask` is lite's own handler, `facts` those of the request. */
export async function answerStorage(request, ask, facts) {
  const { pathname } = new URL(request.url);
  const post = (path, body) => {
    const headers = new Headers(request.headers);
    headers.set('content-type', 'application/json');
    headers.delete('content-length');
    return ask(new Request(new URL(path, request.url), { method: 'POST', headers, body: JSON.stringify(body) }));
  };
  if (request.method === 'POST' && /^\/storage\/v1\/object\/list\/[^/]+$/.test(pathname)) return listFolder(await request.json(), (body) => post(pathname, body));
  if (request.method === 'POST' && /^\/storage\/v1\/object\/sign\/[^/]+$/.test(pathname)) return signMany(await request.json(), (key, body) => post(`${pathname}/${encodePath(key)}`, body));
  const response = await ask(await unwrapForm(request));
  if (facts.tooLarge) return refuseTooLarge(response);
  if (facts.noSuchKey) return json(response, { statusCode: '404', error: 'NoSuchKey', message: 'The specified key does not exist.' }, 404);
  if (facts.unsatisfiable !== undefined) return new Response(null, { status: 416, headers: { 'content-range': `bytes */${facts.unsatisfiable}` } });
  if (response.headers.has('content-range')) return new Response(response.body, { status: 206, headers: response.headers });
  if (!response.ok) return response;
  if (request.method === 'POST' && pathname.startsWith(`${OBJECT}/upload/sign/`)) return signedUpload(response);
  if (request.method === 'POST' && pathname.startsWith(`${OBJECT}/sign/`)) return signedUrl(response);
  if (request.method === 'GET' && pathname.startsWith(`${OBJECT}/info/`)) return flatInfo(response);
  return response;
}

/** Stock: of an upload as a form, a PUT stores the form itself, and nothing looks at the form's `cacheControl`. Hosted: the
 *  form's file, with `cache-control: max-age=…`. */
async function unwrapForm(request) {
  const type = request.headers.get('content-type') ?? '';
  if (!['POST', 'PUT'].includes(request.method) || !type.startsWith('multipart/form-data')) return request;
  const form = await request.formData();
  const file = [...form.values()].find((value) => value instanceof File);
  const headers = new Headers(request.headers);
  headers.delete('content-type');
  headers.delete('content-length');
  if (!file) return new Request(request.url, { method: request.method, headers, body: new FormData() }); // lite says what is missing
  headers.set('content-type', file.type || 'application/octet-stream');
  headers.set('content-length', String(file.size));
  if (form.get('cacheControl')) headers.set('cache-control', `max-age=${form.get('cacheControl')}`);
  return new Request(request.url, { method: request.method, headers, body: file.stream(), duplex: 'half' });
}

/** Stock: full keys of everything below. Hosted: names relative to the folder, folders as entries without an id. */
async function listFolder(query, ask) {
  const folder = query.prefix ? query.prefix.replace(/\/*$/, '/') : '';
  const response = await ask({ prefix: folder, sortBy: { column: 'name', order: 'asc' } });
  if (!response.ok) return response;
  const entries = new Map();
  for (const object of await response.json()) {
    if (!object.name.startsWith(folder)) continue; // lite matches the prefix with LIKE
    const entry = entryOf(object, object.name.slice(folder.length));
    entries.set(`${entry.id === null}:${entry.name}`, entry);
  }
  const { offset = 0, limit = 100 } = query;
  return json(response, arranged([...entries.values()], query).slice(offset, offset + limit));
}

function entryOf({ id, updated_at, created_at, last_accessed_at, metadata }, name) {
  const slash = name.indexOf('/');
  if (slash < 0) return { name, id, updated_at, created_at, last_accessed_at, metadata };
  return { name: name.slice(0, slash), id: null, updated_at: null, created_at: null, last_accessed_at: null, metadata: null };
}

function arranged(entries, { search, sortBy }) {
  const column = sortBy?.column ?? 'name';
  const direction = sortBy?.order === 'desc' ? -1 : 1;
  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  return entries
    .filter(({ name }) => !search || name.toLowerCase().includes(search.toLowerCase()))
    .sort((a, b) => direction * compare(a[column] ?? '', b[column] ?? ''));
}

/** Stock: signing many at once always answers 404, as another route shadows it. */
async function signMany({ paths, expiresIn }, ask) {
  const signed = [];
  let response;
  for (const path of paths) {
    response = await ask(path, { expiresIn });
    const { signedUrl: url } = await response.json();
    const error = url ? null : 'Either the object does not exist or you do not have access to it';
    signed.push({ path, signedURL: url ? relative(url) : null, error });
  }
  return response ? json(response, signed, 200) : Response.json([]);
}

/** Stock: `signedUrl`, from the root. Hosted: `signedURL`, from /storage/v1. */
async function signedUrl(response) {
  const { signedUrl: url } = await response.json();
  return json(response, { signedURL: relative(url) });
}

/** Stock: `signedUrl`. Hosted: `url`. */
async function signedUpload(response) {
  const { signedUrl: url, token } = await response.json();
  return json(response, { url: relative(url), token });
}

/** Stock: size, type and etag below `metadata`. Hosted: at the top level. */
async function flatInfo(response) {
  const { id, name, version, bucket_id, created_at, updated_at, user_metadata, httpMetadata: file } = await response.json();
  const flat = { id, name, version, bucket_id, size: file.size, content_type: file.mimetype, cache_control: file.cacheControl, etag: file.eTag };
  return json(response, { ...flat, metadata: user_metadata ?? {}, last_modified: updated_at ?? file.lastModified, created_at });
}

/** Stock: the limit is held against Content-Length only; a chunked body has none. */
function refuseTooLarge(response) {
  return json(response, { statusCode: '413', error: 'Payload too large', message: 'The object exceeded the maximum allowed size' }, 400);
}
