//! A real RabbitMQ as a child of the test: started, killed, paused and restarted at will, gone when the test is.
//!
//! Drives `rabbitmq.sh`, which unpacks the server once and keeps it under the user's cache.
//! Owns the broker's life; must not speak AMQP.

mod proxy;

pub use proxy::Proxy;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

/// The script beside this crate.
fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("rabbitmq.sh")
}

fn run(args: &[&str]) -> Result<String> {
    let output = Command::new(script()).args(args).output().with_context(|| format!("rabbitmq.sh {args:?}"))?;
    if !output.status.success() {
        bail!("rabbitmq.sh {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What a broker is to be started with.
#[derive(Debug, Default)]
pub struct Options {
    tls: bool,
    config: Option<String>,
}

impl Options {
    /// Also listens for AMQPS, with a certificate for `localhost` and 127.0.0.1 of a throwaway CA.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Lines for the end of `rabbitmq.conf`.
    #[must_use]
    pub fn config(mut self, lines: &str) -> Self {
        self.config = Some(lines.to_owned());
        self
    }

    /// Starts the broker on free ports of 127.0.0.1; returns when it listens.
    ///
    /// # Errors
    /// When RabbitMQ cannot be fetched or does not start; says what it said.
    pub fn start(self) -> Result<Rabbit> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut rabbit = Rabbit {
            name: format!("rig-{}-{count}", std::process::id()),
            folder: TempDir::with_prefix("tidegate-rabbit-")?,
            ports: Vec::new(),
            options: self,
        };
        if rabbit.options.tls {
            run(&["certs", &rabbit.path("certs")])?;
        }
        if let Some(lines) = &rabbit.options.config {
            std::fs::write(rabbit.path("extra.conf"), lines)?;
        }
        rabbit.boot()?;
        Ok(rabbit)
    }
}

/// A running broker. Dropping it kills the broker and throws its data away.
#[derive(Debug)]
pub struct Rabbit {
    name: String,
    folder: TempDir,
    /// Options that give the ports of the first start to every later one.
    ports: Vec<String>,
    options: Options,
}

impl Rabbit {
    /// Starts a broker with nothing special.
    ///
    /// # Errors
    /// As [`Options::start`].
    pub fn start() -> Result<Self> {
        Options::default().start()
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn boot(&mut self) -> Result<()> {
        let owner = std::process::id().to_string();
        let (data, certs, extra) = (self.path("data"), self.path("certs"), self.path("extra.conf"));
        let mut args = vec!["start", &self.name, "--owner", &owner, "--data", &data];
        if self.options.tls {
            args.extend(["--certs", &certs]);
            if self.ports.is_empty() {
                args.extend(["--tls", "0"]);
            }
        }
        if self.options.config.is_some() {
            args.extend(["--config", &extra]);
        }
        args.extend(self.ports.iter().map(String::as_str));
        run(&args)?;
        if self.ports.is_empty() {
            self.ports = vec!["--amqp".to_owned(), port_of(&self.url()?)?];
            if self.options.tls {
                self.ports.extend(["--tls".to_owned(), port_of(&self.amqps_url()?)?]);
            }
        }
        Ok(())
    }

    fn variable(&self, name: &str) -> Result<String> {
        let env = run(&["env", &self.name])?;
        let prefix = format!("{name}=");
        let line = env.lines().find_map(|line| line.strip_prefix(&prefix));
        line.map(str::to_owned).with_context(|| format!("broker {} has no {name}", self.name))
    }

    /// `amqp://user:password@host:port/vhost`.
    ///
    /// # Errors
    /// When the broker does not run.
    pub fn url(&self) -> Result<String> {
        self.variable("AMQP_URL")
    }

    /// `amqps://…`; only with [`Options::tls`].
    ///
    /// # Errors
    /// When the broker does not run or has no TLS.
    pub fn amqps_url(&self) -> Result<String> {
        self.variable("AMQPS_URL")
    }

    /// The CA certificate of the TLS listener, in PEM.
    ///
    /// # Errors
    /// When the broker has no TLS.
    pub fn ca_pem(&self) -> Result<String> {
        std::fs::read_to_string(self.path("certs/ca.pem")).context("the CA of the broker")
    }

    /// The process id of the Erlang virtual machine.
    ///
    /// # Errors
    /// When the broker does not run.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.variable("BROKER_PID")?.parse()?)
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let status = Command::new("kill").args([signal, &self.pid()?.to_string()]).status()?;
        ensure!(status.success(), "kill {signal}: {status}");
        Ok(())
    }

    /// Kills the broker as a crash would, and returns when it is gone. Its data stay for [`Rabbit::restart`].
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self) -> Result<()> {
        run(&["stop", &self.name]).map(drop)
    }

    /// Starts it again after [`Rabbit::kill`], on the same ports and data; returns when it listens.
    ///
    /// # Errors
    /// As [`Options::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.boot()
    }

    /// Stops the broker in its tracks: its connections stay open and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> Result<()> {
        self.signal("-STOP")?;
        // Each thread stops by itself, and one that is at work may still confirm a message.
        let tasks = Path::new("/proc").join(self.pid()?.to_string()).join("task");
        while !all_stopped(&tasks)? {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Lets it go on after [`Rabbit::pause`].
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> Result<()> {
        self.signal("-CONT")
    }

    /// Runs `rabbitmqctl` in it.
    ///
    /// # Errors
    /// What `rabbitmqctl` says.
    pub fn ctl(&self, args: &[&str]) -> Result<String> {
        run(&[&["ctl", &self.name], args].concat())
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        // A broker that is gone already is what is wanted; it ends with this process in any case.
        let _ = run(&["stop", &self.name]);
    }
}

/// Whether every thread of a process is in the state `T`, which stands behind the name in parentheses.
fn all_stopped(tasks: &Path) -> Result<bool> {
    for task in std::fs::read_dir(tasks)? {
        let stat = std::fs::read_to_string(task?.path().join("stat"))?;
        if !stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T')) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn port_of(url: &str) -> Result<String> {
    let address = url.rsplit_once('@').context("a URL with a login")?.1;
    let port = address.split(['/', ':']).nth(1).context("a URL with a port")?;
    Ok(port.to_owned())
}

/// The URL of a broker for tests that need nothing of it but to be there: `TIDEGATE_TEST_AMQP_URL`, or one broker for
/// this process, which ends with it.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn shared_url() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        std::env::var("TIDEGATE_TEST_AMQP_URL").unwrap_or_else(|_| {
            let owner = std::process::id().to_string();
            let name = format!("shared-{owner}");
            run(&["start", &name, "--owner", &owner]).expect("a RabbitMQ for tests")
        })
    })
}

#[cfg(test)]
mod tests {
    //! The rig keeps its promises.

    use super::*;

    fn is_alive(pid: u32) -> bool {
        Path::new("/proc").join(pid.to_string()).exists()
    }

    #[test]
    fn a_broker_comes_back_on_its_port_and_ends_with_its_owner() {
        let mut rabbit = Rabbit::start().unwrap();
        let (url, first) = (rabbit.url().unwrap(), rabbit.pid().unwrap());
        assert!(rabbit.ctl(&["-q", "list_users"]).unwrap().contains("guest"));
        rabbit.kill().unwrap();
        assert!(!is_alive(first));
        rabbit.restart().unwrap();
        assert_eq!(rabbit.url().unwrap(), url);
        let second = rabbit.pid().unwrap();
        rabbit.pause().unwrap();
        rabbit.resume().unwrap();
        drop(rabbit);
        assert!(!is_alive(second));
    }
}
