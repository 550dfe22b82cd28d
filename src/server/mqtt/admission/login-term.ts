import {
  type DeviceCredentials,
  type Secret,
  secretOf,
  validUntilMs,
} from '../../../db/devices/device-credentials.js';
import type { CloseReason } from '../protocol/close-reason.js';
import type { ClientCertificate } from '../transport/accepted-socket.js';
import type { Authenticated } from './authenticate.js';

/** Until when a login is good: one by certificate, alone or with a secret, no longer than the certificate. */
export class LoginTerm {
  /** `Date.now()`; infinite before there is a login. */
  untilMs = Number.POSITIVE_INFINITY;
  private secret: Secret | undefined;
  private readonly certificate: ClientCertificate | undefined;

  constructor(certificate: ClientCertificate | undefined) {
    this.certificate = certificate;
  }

  begin({ device, secret }: Authenticated): void {
    this.secret = secret === undefined ? undefined : secretOf(device, secret);
    this.learn(device);
  }

  /** Learns what is now known of the device. */
  learn(device: DeviceCredentials): void {
    this.untilMs = Math.min(
      validUntilMs(device, this.secret),
      this.certificate?.validUntilMs ?? Number.POSITIVE_INFINITY,
    );
  }

  /** Why the connection closes when its login is no longer good, though its device may come back. */
  get endReason(): CloseReason {
    const { certificate } = this;
    const certificateEnded = certificate !== undefined && certificate.validUntilMs <= Date.now();
    return certificateEnded ? 'certificate-ended' : 'secret-ended';
  }
}
