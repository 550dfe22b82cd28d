import type { Log } from '../../log.js';
import { listCertificateFiles } from './certificate-files.js';
import { openCertificateStore } from './certificate-store.js';

/**
 * Reads the certificates that the settings name, of the MQTT broker and of the HTTP API, and keeps them as their files are.
 *
 * @throws SvcMqttError CONFIG_INVALID naming the setting or file and what is wrong.
 */
export async function openServerCertificates(config: Parameters<typeof listCertificateFiles>[0], log: Log) {
  const files = listCertificateFiles(config);
  const open = async (each: typeof files.mqtt) => each && openCertificateStore({ files: each, log });
  const mqtt = await open(files.mqtt);
  const http = await open(files.http).catch((error: unknown) => {
    mqtt?.close();
    throw error;
  });
  const stores = [mqtt, http].filter((store) => store !== undefined);
  return {
    mqtt,
    http,
    /** Those in use. */
    list: () => stores.map(({ info }) => info),
    /** Reads all files now; what is wrong with them is logged. */
    reload: async (): Promise<void> => {
      await Promise.all(stores.map((store) => store.reload()));
    },
    close: (): void => {
      for (const store of stores) store.close();
    },
  };
}
