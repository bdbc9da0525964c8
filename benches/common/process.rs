//! Other processes of a bench, and what they have used.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

/// The time that a process may take to end.
const LEAVE: Duration = Duration::from_secs(5);

/// Another process, which ends with this one if it ends with its standard input.
pub struct Process {
    child: Child,
    /// The last word of the first line that it has written.
    pub url: String,
    /// Closed, it ends the process.
    stdin: Option<ChildStdin>,
    /// Open, so that the process can write more.
    _stdout: BufReader<ChildStdout>,
}

impl Process {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the process starts");
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("its standard output");
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout
            .read_line(&mut line)
            .expect("the process says where it listens");
        let url = line.split_whitespace().last().unwrap_or_default();
        Self {
            child,
            url: url.to_owned(),
            stdin,
            _stdout: stdout,
        }
    }

    /// Starts this program with other arguments.
    pub fn start_own(arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("the program's own path");
        Self::start(Command::new(program).args(arguments))
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it now, for a process that does not end with its standard input.
    pub fn kill(mut self) {
        let _ = self.child.kill();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let until = Instant::now() + LEAVE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the processor time that a process has used, in microseconds, on Linux. It grows in steps
/// of 10 ms.
pub fn processor_time(process: u32) -> Option<f64> {
    let line = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program, in parentheses, may contain anything.
    let (_, fields) = line.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let mut ticks = || times.next()?.parse::<f64>().ok();
    // Linux tells user programs of 100 ticks a second.
    Some((ticks()? + ticks()?) * 1e4)
}

/// Returns the memory of a process that is in use, in bytes, on Linux.
pub fn resident(process: u32) -> Option<f64> {
    status(process, "VmRSS:")
}

/// Returns the most memory that a process has had in use, in bytes, on Linux.
pub fn peak(process: u32) -> Option<f64> {
    status(process, "VmHWM:")
}

fn status(process: u32, key: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let size = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: f64 = size.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

/// The processor time of calls, by process.
pub struct Spent {
    processes: Vec<u32>,
    /// Of each variant: the calls, and the time of each process.
    variants: Vec<(usize, Vec<Option<f64>>)>,
}

impl Spent {
    pub fn new(processes: &[u32], variants: usize) -> Self {
        Self {
            processes: processes.to_vec(),
            variants: vec![(0, vec![Some(0.0); processes.len()]); variants],
        }
    }

    /// Returns the times so far, for [`add`](Self::add).
    pub fn now(&self) -> Vec<Option<f64>> {
        let processes = self.processes.iter().copied();
        processes.map(processor_time).collect()
    }

    /// Adds the calls that a variant has made since `before`.
    pub fn add(&mut self, variant: usize, calls: usize, before: &[Option<f64>]) {
        let now = self.now();
        let (count, times) = &mut self.variants[variant];
        *count += calls;
        for (time, (now, before)) in times.iter_mut().zip(now.iter().zip(before)) {
            *time = (|| Some((*time)? + (*now)? - (*before)?))();
        }
    }

    /// Returns the microseconds of a process in one call of a variant, where the system tells them.
    pub fn each(&self, variant: usize, process: usize) -> Option<f64> {
        let (calls, times) = &self.variants[variant];
        Some(times[process]? / *calls as f64)
    }

    /// Prints the times of all processes in a call of each variant.
    pub fn print(&self, names: &[&str]) {
        for (variant, name) in names.iter().enumerate() {
            print!("  {name:<44}");
            for process in 0..self.processes.len() {
                match self.each(variant, process) {
                    Some(time) => print!(" {time:>8.1}"),
                    None => print!("        -"),
                }
            }
            println!();
        }
    }
}
