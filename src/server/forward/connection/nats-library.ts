/**
 * The NATS client library, version 2. No other file imports it, so that another version has one place to be met. What is used of
 * it beyond its public interface is in `nats-internals.ts`.
 */
export {
  AckPolicy,
  type Authenticator,
  type ClusterInfo,
  type ConnectionOptions,
  connect,
  credsAuthenticator,
  DeliverPolicy,
  DiscardPolicy,
  headers,
  type JetStreamManager,
  type JetStreamManagerOptions,
  type Msg,
  type MsgHdrs,
  type NatsConnection,
  NatsError,
  nanos,
  nkeyAuthenticator,
  RequestStrategy,
  RetentionPolicy,
  type Service,
  type ServiceMsg,
  StorageType,
  type StreamConfig,
  type StreamInfo,
  type Subscription,
  type TlsOptions,
  tokenAuthenticator,
  usernamePasswordAuthenticator,
} from 'nats';
