//! Whatever a caller presents as its key: what is taken for one has its shape in every byte, and one byte changed makes it garbage.
#![no_main]

use gateway_control::credential::{CREDENTIAL_LEN, Credential, CredentialKind, kind_of};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(kind) = kind_of(bytes) {
        assert!(bytes.len() == CREDENTIAL_LEN && bytes.starts_with(kind.prefix().as_bytes()));
        let text = std::str::from_utf8(bytes).expect("a credential is ASCII");
        assert_eq!(Credential::parse(text).expect("the same").kind(), kind);
    }
    // A real one, made from the input, and then with one of its bytes changed.
    let mut seed = bytes.iter().copied().cycle().map(|byte| byte % 248).chain(std::iter::repeat(7));
    let made = Credential::generate(CredentialKind::Live, |out| {
        out.iter_mut().zip(&mut seed).for_each(|(out, byte)| *out = byte);
        Ok::<_, std::convert::Infallible>(())
    });
    let Ok(made) = made;
    let mut text = made.reveal().as_bytes().to_vec();
    assert_eq!(kind_of(&text), Some(CredentialKind::Live));
    if let [at, change, ..] = *bytes
        && change != 0
    {
        text[usize::from(at) % CREDENTIAL_LEN] ^= change;
        assert_eq!(kind_of(&text), None, "a checksum sees one changed byte");
    }
});
