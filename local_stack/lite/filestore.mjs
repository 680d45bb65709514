// Storage's files. lite exports no file adapter, and the one of its CLI overwrites in place: a kill leaves an empty file that
// is served with 200, a reader beside a writer gets half of each. Here a file is written as incoming and renamed; its type and md5
// stand in a footer of the same file, so that one rename replaces all of it. Reads stream, and know Range.
import fs from 'node:fs';
import fsp from 'node:fs/promises';
import path from 'node:path';
import { createHash, randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { currentRequest } from './request.mjs';

const FOOTER_LENGTH_BYTES = 4;
const CHUNK_BYTES = 1 << 18;
const empty = () => new Blob([]).stream();

export class FileStore {
  driver = fsp;

  constructor(root, { limitBytes }) {
    this.root = path.resolve(root);
    this.limitBytes = limitBytes;
    this.incoming = path.join(this.root, '.incoming');
    fs.rmSync(this.incoming, { recursive: true, force: true }); // what a killed launcher left
    fs.mkdirSync(this.incoming, { recursive: true });
  }

  // A key may be the folder of another key, or hold any character: its hash is a safe name.
  fileOf(bucket, key) {
    const hash = createHash('sha256').update(key).digest('hex');
    return path.join(this.root, encodeURIComponent(bucket).replaceAll('.', '%2E'), hash.slice(0, 2), hash);
  }

  async uploadObject(bucket, key, _version, body, mimetype, cacheControl) {
    const incoming = path.join(this.incoming, randomUUID());
    try {
      const { size, md5 } = await this.receive(incoming, body, { mimetype, cacheControl });
      const file = this.fileOf(bucket, key);
      await fsp.mkdir(path.dirname(file), { recursive: true });
      await fsp.rename(incoming, file);
      return describe({ size, footer: { md5, mimetype, cacheControl }, modified: new Date() });
    } catch (error) {
      await fsp.rm(incoming, { force: true });
      throw error;
    }
  }

  async receive(incoming, body, { mimetype, cacheControl }) {
    const file = await fsp.open(incoming, 'w', 0o600);
    try {
      const hash = createHash('md5');
      let size = 0;
      for await (const chunk of body instanceof Uint8Array ? [body] : body) {
        size += chunk.length;
        this.refuseTooLarge(size);
        hash.update(chunk);
        await file.writeFile(chunk);
      }
      refuseShort(size, body);
      const md5 = hash.digest('hex');
      await file.writeFile(encodeFooter({ md5, mimetype, cacheControl }));
      await file.sync(); // the rename must not overtake the bytes
      return { size, md5 };
    } finally {
      await file.close();
    }
  }

  refuseTooLarge(size) {
    if (size <= this.limitBytes) return;
    currentRequest().tooLarge = true;
    throw new Error('The object exceeded the maximum allowed size');
  }

  // The database may name a file that is not here, as one does that was restored from a backup: backups hold no files.
  async found(file) {
    try {
      return await file;
    } catch (error) {
      currentRequest().noSuchKey = error.code === 'ENOENT';
      throw error;
    }
  }

  async getObject(bucket, key) {
    const file = await this.found(fsp.open(this.fileOf(bucket, key)));
    let streaming = false;
    try {
      const stored = await inspect(file);
      const request = currentRequest();
      const part = partOf(request.range, stored.size);
      if (part?.unsatisfiable) request.unsatisfiable = stored.size;
      const metadata = { ...describe(stored), ...part?.metadata };
      if (part?.unsatisfiable || stored.size === 0 || request.method === 'HEAD') return { httpStatusCode: 200, metadata, body: empty() };
      streaming = true; // from here on the stream closes the file
      const { start, end } = part ?? { start: 0, end: stored.size - 1 };
      const body = Readable.toWeb(file.createReadStream({ start, end, highWaterMark: CHUNK_BYTES }));
      return { httpStatusCode: 200, metadata, body };
    } finally {
      if (!streaming) await file.close();
    }
  }

  async headObject(bucket, key) {
    const file = await this.found(fsp.open(this.fileOf(bucket, key)));
    try {
      return describe(await inspect(file));
    } finally {
      await file.close();
    }
  }

  async copyObject(bucket, key, _version, toBucket, toKey) {
    const target = this.fileOf(toBucket, toKey);
    const incoming = path.join(this.incoming, randomUUID());
    await this.found(fsp.copyFile(this.fileOf(bucket, key), incoming));
    await fsp.mkdir(path.dirname(target), { recursive: true });
    await fsp.rename(incoming, target);
    const { eTag, lastModified } = await this.headObject(toBucket, toKey);
    return { httpStatusCode: 200, eTag, lastModified };
  }

  async deleteObject(bucket, key) {
    await fsp.rm(this.fileOf(bucket, key), { force: true });
  }

  async deleteObjects(bucket, keys) {
    await Promise.all(keys.map((key) => this.deleteObject(bucket, key)));
  }

  async privateAssetUrl(bucket, key) {
    return `file://${this.fileOf(bucket, key)}`;
  }
}

function refuseShort(size, body) {
  const promised = currentRequest().contentLength;
  if (body instanceof Uint8Array || promised === undefined || promised === size) return;
  throw new Error(`the body ended after ${size} of ${promised} bytes`);
}

function encodeFooter(footer) {
  const text = Buffer.from(JSON.stringify(footer));
  const length = Buffer.alloc(FOOTER_LENGTH_BYTES);
  length.writeUInt32BE(text.length);
  return Buffer.concat([text, length]);
}

async function inspect(file) {
  const { size: whole, mtime } = await file.stat();
  const tail = async (bytes, end) => (await file.read(Buffer.alloc(bytes), 0, bytes, end - bytes)).buffer;
  const footerBytes = (await tail(FOOTER_LENGTH_BYTES, whole)).readUInt32BE();
  const end = whole - FOOTER_LENGTH_BYTES;
  return { size: end - footerBytes, footer: JSON.parse(await tail(footerBytes, end)), modified: mtime };
}

/** The md5 of the content is the etag, as on the hosted platform for a file sent in one part. */
function describe({ size, footer, modified }) {
  return {
    cacheControl: footer.cacheControl ?? 'no-cache',
    contentLength: size,
    size,
    mimetype: footer.mimetype ?? 'application/octet-stream',
    lastModified: modified,
    eTag: `"${footer.md5}"`,
    httpStatusCode: 200,
  };
}

/** One range of bytes: undefined for none or one that is not understood (RFC 9110 14.2: then the whole is sent). */
function partOf(header, size) {
  const [, first, last] = /^bytes=(\d*)-(\d*)$/.exec(header ?? '') ?? [];
  if (!first && !last) return undefined;
  const start = first ? Number(first) : Math.max(0, size - Number(last));
  const end = first && last ? Math.min(size - 1, Number(last)) : size - 1;
  if (start >= size || end < start) return { unsatisfiable: true, metadata: { contentLength: 0 } };
  return { start, end, metadata: { contentRange: `bytes ${start}-${end}/${size}`, contentLength: end - start + 1 } };
}
