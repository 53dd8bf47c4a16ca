module github.com/florin-db/florin/bench/caller

go 1.26.0

require github.com/florin-db/florin/clients/go v0.0.0

require github.com/google/flatbuffers v25.12.19+incompatible // indirect

replace github.com/florin-db/florin/clients/go => ../../clients/go
