import type { CodegenConfig } from "@graphql-codegen/cli";

const config: CodegenConfig = {
  schema: "../../../schema.graphql",
  documents: "../operations.graphql",
  generates: {
    "notebook/": {
      preset: "client",
      presetConfig: { fragmentMasking: false },
      config: {
        useTypeImports: true,
        strictScalars: true,
        scalars: { DateTime: "string", Decimal: "string", JSON: "unknown", UUID: "string" },
      },
    },
  },
};

export default config;
