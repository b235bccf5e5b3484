//! Lines at the foot of a terminal that are redrawn in place while others scroll above them.
//!
//! It knows the terminal, not what the lines say. What was drawn is measured anew by the width of now before it is taken
//! back, so that nothing is left over when the window was made narrower.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

const REDRAWN_EVERY: Duration = Duration::from_millis(125);

/// What is to be drawn.
pub trait Scene: Send + 'static {
    /// The lines of now, each at most so wide, at most so many. They hold no codes of the terminal.
    fn lines(&self, width: usize, height: usize) -> Vec<String>;
}

/// A scene that is drawn several times a second.
pub struct Live<S: Scene> {
    stage: Arc<Stage<S>>,
    painter: Option<JoinHandle<()>>,
}

struct Stage<S> {
    state: Mutex<State<S>>,
    over: Condvar,
}

struct State<S> {
    scene: S,
    /// Widths of the lines that are there.
    drawn: Vec<usize>,
    is_over: bool,
}

impl<S: Scene> Live<S> {
    /// Begins to draw on stderr.
    pub fn new(scene: S) -> Self {
        let state = Mutex::new(State { scene, drawn: Vec::new(), is_over: false });
        let stage = Arc::new(Stage { state, over: Condvar::new() });
        let painted = Arc::clone(&stage);
        let painter = std::thread::Builder::new().name("progress".to_owned()).spawn(move || painted.paint());
        Self { stage, painter: painter.ok() }
    }

    /// Changes the scene; that is seen when it is drawn next.
    pub fn change(&self, act: impl FnOnce(&mut S)) {
        act(&mut self.stage.state().scene);
    }

    /// Lets something print above the scene.
    pub fn above(&self, print: impl FnOnce()) {
        let mut state = self.stage.state();
        state.take_back();
        print();
        state.draw();
    }
}

impl<S: Scene> Drop for Live<S> {
    fn drop(&mut self) {
        let mut state = self.stage.state();
        state.take_back();
        state.is_over = true;
        drop(state);
        self.stage.over.notify_all();
        if let Some(painter) = self.painter.take() {
            let _panicked = painter.join();
        }
    }
}

impl<S: Scene> Stage<S> {
    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn paint(&self) {
        let mut state = self.state();
        while !state.is_over {
            state.take_back();
            state.draw();
            state = self.over.wait_timeout(state, REDRAWN_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<S: Scene> State<S> {
    fn draw(&mut self) {
        let (width, height) = size();
        // The last column and the last row stay free: some terminals move on when they are filled.
        let lines = self.scene.lines(width - 1, height - 1);
        self.drawn = lines.iter().map(|line| line.chars().count()).collect();
        write(&lines.join("\r\n"));
    }

    fn take_back(&mut self) {
        let rows = rows(&std::mem::take(&mut self.drawn), size().0);
        match rows {
            0 => {}
            1 => write("\r\x1b[J"),
            _ => write(&format!("\r\x1b[{}A\x1b[J", rows - 1)),
        }
    }
}

/// Rows that lines take in a window of this width, which breaks those that are longer.
fn rows(lines: &[usize], width: usize) -> usize {
    lines.iter().map(|line| line.div_ceil(width).max(1)).sum()
}

fn size() -> (usize, usize) {
    const USUAL: (usize, usize) = (80, 24);
    let size = terminal_size::terminal_size_of(io::stderr());
    let (width, height) = size.map_or(USUAL, |(width, height)| (width.0.into(), height.0.into()));
    (width.max(2), height.max(2))
}

/// Nobody is told that stderr is closed.
fn write(text: &str) {
    let mut stderr = io::stderr().lock();
    let _closed = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_take_more_rows_in_a_window_that_was_made_narrower() {
        assert_eq!(rows(&[79, 10, 0], 80), 3);
        assert_eq!(rows(&[79, 10, 0], 40), 4);
        assert_eq!(rows(&[79, 10, 0], 10), 10);
        assert_eq!(rows(&[], 10), 0);
    }
}
