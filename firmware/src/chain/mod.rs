//! Chain back ends: a bitcoind and the play-money chain.
