import type { Log } from '../../log.js';
import { listCertificateFiles } from './certificate-files.js';
import type { CertificateInfo } from './certificate-info.js';
import { type CertificateStore, openCertificateStore } from './certificate-store.js';

/** The certificates of a replica. */
export interface ServerCertificates {
  /** Of the MQTT broker. */
  readonly mqtt: CertificateStore | undefined;
  /** Of the HTTP API. */
  readonly http: CertificateStore | undefined;
  /** Those in use. */
  list(): CertificateInfo[];
  /** Reads all files now; what is wrong with them is logged. */
  reload(): Promise<void>;
  close(): void;
}

/**
 * Reads the certificates that the settings name, and keeps them as their files are.
 *
 * @throws SvcMqttError CONFIG_INVALID naming the setting or file and what is wrong.
 */
export async function openServerCertificates(
  config: Parameters<typeof listCertificateFiles>[0],
  log: Log,
): Promise<ServerCertificates> {
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
    list: () => stores.map(({ info }) => info),
    reload: async () => {
      await Promise.all(stores.map((store) => store.reload()));
    },
    close: () => {
      for (const store of stores) store.close();
    },
  };
}
