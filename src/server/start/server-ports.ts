/** The ports in use, of interest when 0 was asked for. */
export interface ServerPorts {
  /** Undefined with MQTT_TCP=false; so are the others that are not listened on. */
  readonly mqtt: number | undefined;
  readonly mqtts: number | undefined;
  readonly ws: number | undefined;
  readonly wss: number | undefined;
  readonly http: number;
}
