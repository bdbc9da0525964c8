//! The tokens of a piece of text, which no token crosses the ends of.

use std::ops::Range;

use bpe_openai::byte_pair_encoding::BytePairEncoding;

/// The length of a run of one byte from which it is shortened before it is encoded.
const LONG_RUN: usize = 1024;

/// The bytes of a long run that are encoded.
const ENCODED: usize = 512;

/// Returns the number of tokens of a piece if it is at most `limit`.
pub(super) fn count_up_to(bpe: &BytePairEncoding, piece: &[u8], limit: usize) -> Option<usize> {
    if let Some(count) = count_of_runs(bpe, piece) {
        return Some(count).filter(|count| *count <= limit);
    }
    bpe.count_till_limit(piece, limit)
}

/// Returns the number of tokens of a piece.
pub(super) fn count(bpe: &BytePairEncoding, piece: &[u8]) -> usize {
    count_of_runs(bpe, piece).unwrap_or_else(|| bpe.count(piece))
}

/// A run of one byte that was shortened by a multiple of a token.
struct Run {
    token: u32,
    /// Its place in the shortened piece.
    place: Range<usize>,
    /// The number of tokens that it was shortened by.
    removed: usize,
}

/// Returns the number of tokens of a piece with long runs of one byte, without encoding all of it.
/// Returns `None` for another piece.
///
/// Tokens are the encoding of a text if each two neighbours are (a theorem of byte-pair encoding).
/// So where the encoding of a run has a token twice in a row, it has it as often as one likes: the
/// run may be longer by it any number of times.
pub(super) fn count_of_runs(bpe: &BytePairEncoding, piece: &[u8]) -> Option<usize> {
    if piece.len() < LONG_RUN {
        return None;
    }
    let mut short = Vec::new();
    let mut runs: Vec<Run> = Vec::new();
    for run in piece.chunk_by(|one, next| one == next) {
        let unit = match run.len() >= LONG_RUN {
            true => unit_of(bpe, run[0]),
            false => None,
        };
        let Some((token, length)) = unit else {
            short.extend_from_slice(run);
            continue;
        };
        let removed = (run.len() - ENCODED) / length;
        let start = short.len();
        short.extend_from_slice(&run[..run.len() - removed * length]);
        runs.push(Run {
            token,
            place: start..short.len(),
            removed,
        });
    }
    if runs.is_empty() {
        return None;
    }
    let tokens = bpe.encode_via_backtracking(&short);
    let all_repeat = runs.iter().all(|run| repeats(bpe, &tokens, run));
    let removed = runs.iter().map(|run| run.removed).sum::<usize>();
    all_repeat.then_some(tokens.len() + removed)
}

/// Returns the token that a run of this byte mainly consists of, and its length.
fn unit_of(bpe: &BytePairEncoding, byte: u8) -> Option<(u32, usize)> {
    let tokens = bpe.encode_via_backtracking(&[byte; ENCODED]);
    let middle = tokens.len() / 2;
    let token = *tokens.get(middle)?;
    (tokens.get(middle + 1) == Some(&token)).then(|| (token, bpe.token_len(token)))
}

/// Returns `true` if the token of a run is there twice in a row.
fn repeats(bpe: &BytePairEncoding, tokens: &[u32], run: &Run) -> bool {
    let mut start = 0;
    tokens.windows(2).any(|pair| {
        let lengths = [bpe.token_len(pair[0]), bpe.token_len(pair[1])];
        let both = start..start + lengths[0] + lengths[1];
        start += lengths[0];
        let is_inside = run.place.start <= both.start && both.end <= run.place.end;
        is_inside && pair == [run.token; 2]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_have_the_count_of_their_whole_encoding() {
        for bpe in [
            &bpe_openai::o200k_base().bpe,
            &bpe_openai::cl100k_base().bpe,
        ] {
            for byte in b"= -a*_\n\t#0.~e" {
                for length in [1_023, 1_024, 1_025, 2_000, 4_095, 5_003] {
                    let run = vec![*byte; length];
                    let pieces = [
                        run.clone(),
                        [b" (", &*run, b"\n\n"].concat(),
                        [&*run, b"/", &*run, b"=", &*run].concat(),
                    ];
                    for piece in pieces {
                        let whole = bpe.count(&piece);
                        let name = char::from(*byte);
                        assert_eq!(count(bpe, &piece), whole, "{length} {name:?}");
                        assert_eq!(count_up_to(bpe, &piece, whole), Some(whole));
                        assert_eq!(count_up_to(bpe, &piece, whole - 1), None);
                    }
                }
            }
        }
    }

    #[test]
    fn a_long_run_is_not_encoded_as_a_whole() {
        let bpe = &bpe_openai::o200k_base().bpe;
        let count = count_of_runs(bpe, &vec![b'='; 64 << 20]);
        assert_eq!(count, Some((64 << 20) / 64));
    }
}
