/**
 * @param {Record<string, unknown>} header by key, as it stands in the file
 * @param {ArrayBufferView} data behind the header
 * @returns {ArrayBuffer} a safetensors file
 */
export function safetensorsFile(header, data) {
  const text = new TextEncoder().encode(JSON.stringify(header));
  const parts = [BigUint64Array.of(BigInt(text.length)), text, data];
  return Uint8Array.from(parts.flatMap(({ buffer }) => [...new Uint8Array(buffer)])).buffer;
}
