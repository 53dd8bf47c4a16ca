//! A connection in PostgreSQL's simple query protocol: what replication and COPY need, and `tokio-postgres` does not speak.
//! Every message is read whole out of one large buffer, so a read of the socket brings hundreds.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{ErrorFields, Header, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::connect::{Duplex, OPTIONS};
use crate::limits::{CONNECT_TIMEOUT, MESSAGE_BYTES_MAX, QUERY_TIMEOUT, READ_BYTES};

/// Why a connection gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The connection is gone, or never came.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server did not answer in time.
    #[error("the server did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The server refuses.
    #[error("{message} (SQLSTATE {code})")]
    Server {
        /// The SQLSTATE.
        code: String,
        /// What it says.
        message: String,
    },
    /// The server sent something that does not belong here.
    #[error("the server sent what was not expected here: {0}")]
    Unexpected(String),
    /// The server wants to know who this is in a way that this program does not.
    #[error(
        "the server asks for {0}, which florin does not do: use scram-sha-256 or a client certificate in pg_hba.conf"
    )]
    Authentication(&'static str),
    /// A password is asked for.
    #[error("the server asks for a password and none is given: set PGPASSWORD or PGPASSFILE")]
    NoPassword,
}

impl WireError {
    /// Whether the server refuses with this SQLSTATE.
    pub fn is_code(&self, wanted: &str) -> bool {
        matches!(self, WireError::Server { code, .. } if code == wanted)
    }
}

/// Who connects.
#[derive(Clone, Debug)]
pub struct Login {
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// The password, where there is one.
    pub password: Option<Vec<u8>>,
    /// As `pg_stat_activity` shows it.
    pub application: String,
}

/// A row of a query's answer; none = NULL.
pub type Answer = Vec<Option<String>>;

/// See the module.
pub struct Wire {
    stream: Box<dyn Duplex>,
    input: BytesMut,
    output: BytesMut,
}

/// A message while rows are copied out or replicated.
pub enum Piece {
    /// Of a COPY, or of the stream.
    Data(Bytes),
    /// There is no more.
    End,
}

impl Wire {
    /// Logs in on a connection that was made.
    ///
    /// # Errors
    /// The server's refusal, or that it does not answer within [`CONNECT_TIMEOUT`].
    pub async fn log_in(
        stream: Box<dyn Duplex>,
        login: &Login,
        is_replication: bool,
    ) -> Result<Wire, WireError> {
        let mut wire = Wire { stream, input: BytesMut::with_capacity(READ_BYTES), output: BytesMut::new() };
        let logged_in = wire.start(login, is_replication);
        timeout(CONNECT_TIMEOUT, logged_in).await.map_err(|_| WireError::Timeout(CONNECT_TIMEOUT))??;
        Ok(wire)
    }

    async fn start(&mut self, login: &Login, is_replication: bool) -> Result<(), WireError> {
        let mut parameters = vec![
            ("user", login.user.as_str()),
            ("database", &login.database),
            ("client_encoding", "UTF8"),
            ("application_name", &login.application),
            ("options", OPTIONS),
        ];
        if is_replication {
            parameters.push(("replication", "database"));
        }
        frontend::startup_message(parameters, &mut self.output)?;
        self.flush().await?;
        self.authenticate(login).await?;
        loop {
            match self.message().await? {
                Message::ReadyForQuery(_) => return Ok(()),
                Message::BackendKeyData(_) | Message::ParameterStatus(_) | Message::NoticeResponse(_) => {}
                Message::ErrorResponse(body) => return Err(refusal(body.fields())),
                _ => return Err(WireError::Unexpected("a message between login and readiness".to_owned())),
            }
        }
    }

    async fn authenticate(&mut self, login: &Login) -> Result<(), WireError> {
        let password = || login.password.as_deref().ok_or(WireError::NoPassword);
        let mut scram: Option<ScramSha256> = None;
        loop {
            match self.message().await? {
                // A server that knows the password proves it before it lets anybody in.
                Message::AuthenticationOk if scram.is_some() => {
                    return Err(WireError::Unexpected(
                        "a login without the proof that it knows the password".to_owned(),
                    ));
                }
                Message::AuthenticationOk => return Ok(()),
                Message::AuthenticationCleartextPassword => {
                    frontend::password_message(password()?, &mut self.output)?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(login.user.as_bytes(), password()?, body.salt());
                    frontend::password_message(hash.as_bytes(), &mut self.output)?;
                }
                Message::AuthenticationSasl(_) => {
                    let begun = scram.insert(ScramSha256::new(password()?, ChannelBinding::unsupported()));
                    frontend::sasl_initial_response(SCRAM_SHA_256, begun.message(), &mut self.output)?;
                }
                Message::AuthenticationSaslContinue(body) => {
                    let scram = scram.as_mut().ok_or_else(out_of_order)?;
                    scram.update(body.data())?;
                    frontend::sasl_response(scram.message(), &mut self.output)?;
                }
                Message::AuthenticationSaslFinal(body) => {
                    scram.take().ok_or_else(out_of_order)?.finish(body.data())?;
                }
                Message::ErrorResponse(body) => return Err(refusal(body.fields())),
                Message::NoticeResponse(_) => {}
                Message::AuthenticationKerberosV5
                | Message::AuthenticationGss
                | Message::AuthenticationSspi => {
                    return Err(WireError::Authentication("Kerberos"));
                }
                _ => return Err(WireError::Authentication("a login of an unknown kind")),
            }
            self.flush().await?;
        }
    }

    /// The rows that a query answers, or the last of several.
    ///
    /// # Errors
    /// The server's refusal, after which the connection goes on; or that it does not answer within [`QUERY_TIMEOUT`].
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Answer>, WireError> {
        self.query_within(sql, QUERY_TIMEOUT).await
    }

    /// The same with another patience.
    ///
    /// # Errors
    /// The same.
    pub async fn query_within(&mut self, sql: &str, patience: Duration) -> Result<Vec<Answer>, WireError> {
        timeout(patience, self.ask(sql)).await.map_err(|_| WireError::Timeout(patience))?
    }

    async fn ask(&mut self, sql: &str) -> Result<Vec<Answer>, WireError> {
        frontend::query(sql, &mut self.output)?;
        self.flush().await?;
        let (mut rows, mut refused) = (Vec::new(), None);
        loop {
            match self.message().await? {
                Message::DataRow(body) => {
                    let mut ranges = body.ranges();
                    let mut row = Vec::new();
                    while let Some(range) = fallible_iterator::FallibleIterator::next(&mut ranges)? {
                        row.push(
                            range.map(|range| String::from_utf8_lossy(&body.buffer()[range]).into_owned()),
                        );
                    }
                    rows.push(row);
                }
                Message::ReadyForQuery(_) => return refused.map_or(Ok(rows), Err),
                Message::ErrorResponse(body) => refused = Some(refusal(body.fields())),
                Message::RowDescription(_)
                | Message::CommandComplete(_)
                | Message::EmptyQueryResponse
                | Message::NoticeResponse(_)
                | Message::ParameterStatus(_) => {}
                _ => return Err(out_of_order()),
            }
        }
    }

    /// Begins a COPY to here, or the stream: what it sends comes by [`Wire::piece`].
    ///
    /// # Errors
    /// The server's refusal, or that it does not begin within [`QUERY_TIMEOUT`].
    pub async fn begin_copy(&mut self, sql: &str) -> Result<(), WireError> {
        frontend::query(sql, &mut self.output)?;
        self.flush().await?;
        let begun = async {
            loop {
                let (tag, body) = self.frame().await?;
                match tag {
                    // To here alone, or both ways.
                    b'H' | b'W' => return Ok(()),
                    b'N' | b'S' => {}
                    _ => return Err(self.refused(tag, body).await),
                }
            }
        };
        timeout(QUERY_TIMEOUT, begun).await.map_err(|_| WireError::Timeout(QUERY_TIMEOUT))?
    }

    /// What the server refuses with. It has said that it is ready again once this returns.
    async fn refused(&mut self, tag: u8, body: Bytes) -> WireError {
        if tag != b'E' {
            return out_of_order();
        }
        let Ok(error) = error_of(body) else { return out_of_order() };
        // After an error within a COPY the server is ready again; one that ends the connection says no more.
        while let Ok((tag, _)) = self.frame().await {
            if tag == b'Z' {
                break;
            }
        }
        error
    }

    /// The next piece, if all of it is here. Else [`Wire::fill`].
    ///
    /// # Errors
    /// The server's, or that what it sent does not belong here.
    pub fn piece(&mut self) -> Result<Option<Piece>, WireError> {
        while let Some((tag, body)) = self.take_frame()? {
            match tag {
                b'd' => return Ok(Some(Piece::Data(body))),
                b'c' => return Ok(Some(Piece::End)),
                b'N' | b'S' | b'A' => {}
                b'E' => return Err(error_of(body)?),
                _ => return Err(out_of_order()),
            }
        }
        Ok(None)
    }

    /// Reads what has come. Nothing is lost where this is given up before it ends.
    ///
    /// # Errors
    /// The connection's.
    pub async fn fill(&mut self) -> Result<(), WireError> {
        self.input.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection").into()),
            _ => Ok(()),
        }
    }

    /// After a COPY's end: waits until the server is ready.
    ///
    /// # Errors
    /// The server's, or that it does not become so within [`QUERY_TIMEOUT`].
    pub async fn end_copy(&mut self) -> Result<(), WireError> {
        let ended = async {
            loop {
                match self.message().await? {
                    Message::ReadyForQuery(_) => return Ok(()),
                    Message::CommandComplete(_)
                    | Message::NoticeResponse(_)
                    | Message::ParameterStatus(_) => {}
                    Message::ErrorResponse(body) => return Err(refusal(body.fields())),
                    _ => return Err(out_of_order()),
                }
            }
        };
        timeout(QUERY_TIMEOUT, ended).await.map_err(|_| WireError::Timeout(QUERY_TIMEOUT))?
    }

    /// Sends a message into the stream.
    ///
    /// # Errors
    /// The connection's, or that it takes nothing for [`QUERY_TIMEOUT`].
    pub async fn send_data(&mut self, data: &[u8]) -> Result<(), WireError> {
        frontend::CopyData::new(data)?.write(&mut self.output);
        let sent = self.flush();
        timeout(QUERY_TIMEOUT, sent).await.map_err(|_| WireError::Timeout(QUERY_TIMEOUT))??;
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.output).await?;
        self.output.clear();
        self.stream.flush().await
    }

    async fn message(&mut self) -> Result<Message, WireError> {
        loop {
            self.check_length()?;
            if let Some(message) = Message::parse(&mut self.input)? {
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    async fn frame(&mut self) -> Result<(u8, Bytes), WireError> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// A message's type and what is in it, if all of it is here.
    fn take_frame(&mut self) -> Result<Option<(u8, Bytes)>, WireError> {
        let Some((tag, bytes)) = self.check_length()? else { return Ok(None) };
        if self.input.len() < bytes {
            return Ok(None);
        }
        let frame = self.input.split_to(bytes).freeze();
        Ok(Some((tag, frame.slice(5..))))
    }

    /// The next message's type and bytes, if that much is here.
    fn check_length(&self) -> Result<Option<(u8, usize)>, WireError> {
        let Some(header) = Header::parse(&self.input)? else { return Ok(None) };
        let bytes = usize::try_from(header.len()).unwrap_or(usize::MAX).saturating_add(1);
        if bytes > MESSAGE_BYTES_MAX {
            return Err(WireError::Unexpected(format!("a message of {bytes} bytes")));
        }
        Ok(Some((header.tag(), bytes)))
    }
}

fn error_of(body: Bytes) -> Result<WireError, WireError> {
    // The crate reads whole messages.
    let mut whole = BytesMut::with_capacity(body.len() + 5);
    whole.extend_from_slice(b"E");
    whole.extend_from_slice(&u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes());
    whole.extend_from_slice(&body);
    match Message::parse(&mut whole)? {
        Some(Message::ErrorResponse(body)) => Ok(refusal(body.fields())),
        _ => Err(out_of_order()),
    }
}

fn refusal(mut fields: ErrorFields<'_>) -> WireError {
    let (mut code, mut message) = (String::new(), String::new());
    while let Ok(Some(field)) = fallible_iterator::FallibleIterator::next(&mut fields) {
        let value = String::from_utf8_lossy(field.value_bytes());
        match field.type_() {
            b'C' => code = value.into_owned(),
            b'M' => message = value.into_owned(),
            b'D' => message = format!("{message}: {value}"),
            _ => {}
        }
    }
    WireError::Server { code, message }
}

fn out_of_order() -> WireError {
    WireError::Unexpected("a message out of order".to_owned())
}
