module github.com/florin-db/florin/clients/go

go 1.25

require github.com/google/flatbuffers v25.12.19+incompatible
